//! Whether a document is what it says it is.

use std::collections::BTreeMap;

use gateway_api::{gateways::Gateway, grpcroutes::GrpcRoute};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Namespace, Service, ServiceAccount},
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::documents::{must, name, text};

/// Parses a document as what it says it is, and refuses fields that its kind has not.
pub(super) fn check(document: &Value, problems: &mut Vec<String>) {
    let parse = match (text(&document["apiVersion"]), text(&document["kind"])) {
        ("v1", "Namespace") => unknown_fields::<Namespace>,
        ("v1", "Service") => unknown_fields::<Service>,
        ("v1", "ServiceAccount") => unknown_fields::<ServiceAccount>,
        ("apps/v1", "Deployment") => unknown_fields::<Deployment>,
        ("autoscaling/v2", "HorizontalPodAutoscaler") => unknown_fields::<HorizontalPodAutoscaler>,
        ("policy/v1", "PodDisruptionBudget") => unknown_fields::<PodDisruptionBudget>,
        ("networking.k8s.io/v1", "Ingress") => unknown_fields::<Ingress>,
        ("networking.k8s.io/v1", "NetworkPolicy") => unknown_fields::<NetworkPolicy>,
        ("gateway.networking.k8s.io/v1", "Gateway") => unknown_fields::<Gateway>,
        ("gateway.networking.k8s.io/v1", "GRPCRoute") => unknown_fields::<GrpcRoute>,
        ("application-networking.k8s.aws/v1alpha1", "TargetGroupPolicy") => {
            unknown_fields::<TargetGroupPolicy>
        }
        other => return problems.push(format!("{other:?} is not known here")),
    };
    match parse(document) {
        Ok(fields) => must!(
            problems,
            fields.is_empty(),
            "{}: unknown fields {fields:?}",
            name(document)
        ),
        Err(error) => problems.push(format!("{}: {error}", name(document))),
    }
}

fn unknown_fields<T: DeserializeOwned>(document: &Value) -> Result<Vec<String>, serde_json::Error> {
    let mut fields = Vec::new();
    serde_ignored::deserialize::<_, _, T>(document, |path| fields.push(path.to_string()))?;
    // The types of gateway-api leave these two to kube.
    fields.retain(|field| field != "apiVersion" && field != "kind");
    Ok(fields)
}

/// How Lattice is to reach the pods of a Service; nobody publishes the type.
/// <https://www.gateway-api-controller.eks.aws.dev/latest/api-types/target-group-policy/>
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is enough that it can be read")]
struct TargetGroupPolicy {
    metadata: ObjectMeta,
    spec: TargetGroupPolicySpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is enough that it can be read")]
struct TargetGroupPolicySpec {
    target_ref: BTreeMap<String, String>,
    protocol: String,
    protocol_version: String,
    health_check: LatticeHealthCheck,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is enough that it can be read")]
struct LatticeHealthCheck {
    enabled: bool,
    protocol: String,
    protocol_version: String,
    port: u16,
    path: String,
    status_match: String,
    interval_seconds: u32,
    timeout_seconds: u32,
    healthy_threshold_count: u32,
    unhealthy_threshold_count: u32,
}
