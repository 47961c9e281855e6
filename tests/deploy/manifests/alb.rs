//! What the AWS Load Balancer Controller must be told, so that an ALB carries gRPC.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    documents::{Manifests, list, must, name, text},
    rules::backend,
    server::Servers,
};

/// Every annotation that is known here, with what its value may be. All must be there: each has a default
/// that is wrong for gRPC or may change. Any other is misspelt, or nobody has thought about it.
/// <https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/>
const ANNOTATIONS: [(&str, Fits); 20] = [
    ("backend-protocol", |value| {
        ["HTTP", "HTTPS"].contains(&value)
    }),
    ("backend-protocol-version", |value| value == "GRPC"),
    ("certificate-arn", |value| value == "${CERTIFICATE_ARN}"),
    ("healthcheck-interval-seconds", |value| {
        is_between(5, 300, value)
    }),
    ("healthcheck-path", |value| value == "/AWS.ALB/healthcheck"),
    ("healthcheck-port", |value| value == "traffic-port"),
    // GRPC is none: the protocol version says that.
    ("healthcheck-protocol", |value| {
        ["HTTP", "HTTPS"].contains(&value)
    }),
    ("healthcheck-timeout-seconds", |value| {
        is_between(2, 120, value)
    }),
    ("healthy-threshold-count", |value| is_between(2, 10, value)),
    ("inbound-cidrs", |value| value == "0.0.0.0/0"),
    ("ip-address-type", |value| {
        ["ipv4", "dualstack"].contains(&value)
    }),
    ("listen-ports", |value| value == r#"[{"HTTPS":443}]"#),
    ("load-balancer-attributes", |_| true),
    ("load-balancer-name", |value| {
        (1..=32).contains(&value.len())
    }),
    ("scheme", |value| {
        ["internet-facing", "internal"].contains(&value)
    }),
    ("ssl-policy", |value| {
        value.starts_with("ELBSecurityPolicy-TLS13-1-")
    }),
    // A server that does not serve answers with another code than 0.
    ("success-codes", |value| value == "0"),
    ("target-group-attributes", |_| true),
    ("target-type", |value| value == "ip"),
    ("unhealthy-threshold-count", |value| {
        is_between(2, 10, value)
    }),
];

type Fits = fn(&str) -> bool;

fn is_between(least: u64, most: u64, value: &str) -> bool {
    value
        .parse()
        .is_ok_and(|number| (least..=most).contains(&number))
}

pub(super) fn check(found: &Manifests<'_>, servers: &Servers, problems: &mut Vec<String>) {
    for ingress in found.all("Ingress") {
        self::ingress(found, ingress, servers, problems);
    }
}

fn ingress(found: &Manifests<'_>, ingress: &Value, servers: &Servers, problems: &mut Vec<String>) {
    let this = name(ingress);
    annotations(ingress, problems);
    health_checks(ingress, problems);
    let group = attributes(annotation(ingress, "target-group-attributes"));
    balancer_attributes(ingress, &group, problems);
    must!(
        problems,
        ingress["spec"]["ingressClassName"] == "alb",
        "{this}: of another class"
    );
    let gate = found.gate("elbv2.k8s.aws/pod-readiness-gate-inject");
    must!(
        problems,
        gate,
        "pods are ready before the ALB finds them healthy"
    );
    let rules = list(&ingress["spec"]["rules"]).iter();
    let paths: Vec<_> = rules
        .flat_map(|rule| list(&rule["http"]["paths"]))
        .collect();
    must!(
        problems,
        paths.len() == servers.len(),
        "{this}: {} paths",
        paths.len()
    );
    let delay = group.get(DELAY).and_then(|delay| delay.parse::<u64>().ok());
    for path in paths {
        path_to_pods(found, ingress, path, delay, servers, problems);
    }
}

/// Seconds that calls get to end after a target's deregistration.
const DELAY: &str = "deregistration_delay.timeout_seconds";

/// An annotation of the controller's, by its name without the prefix.
fn annotation<'a>(ingress: &'a Value, key: &str) -> &'a str {
    text(&ingress["metadata"]["annotations"][format!("alb.ingress.kubernetes.io/{key}")])
}

/// Each has a value that fits, and none is unknown.
fn annotations(ingress: &Value, problems: &mut Vec<String>) {
    let this = name(ingress);
    let annotations = &ingress["metadata"]["annotations"];
    for (key, fits) in ANNOTATIONS {
        must!(
            problems,
            fits(annotation(ingress, key)),
            "{this}: {key} is {:?}",
            annotation(ingress, key)
        );
    }
    for key in annotations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
    {
        let bare = key
            .strip_prefix("alb.ingress.kubernetes.io/")
            .unwrap_or(key);
        let known = ANNOTATIONS.iter().any(|(known, _)| *known == bare);
        must!(
            problems,
            known,
            "{this}: annotation {key} is not known here"
        );
    }
}

fn health_checks(ingress: &Value, problems: &mut Vec<String>) {
    let this = name(ingress);
    let value = |key: &str| annotation(ingress, key);
    let number = |key: &str| value(key).parse::<u64>().unwrap_or_default();
    let (interval, timeout) = (
        number("healthcheck-interval-seconds"),
        number("healthcheck-timeout-seconds"),
    );
    must!(
        problems,
        timeout < interval,
        "{this}: health is asked every {interval} s for {timeout} s"
    );
    must!(
        problems,
        value("healthcheck-protocol") == value("backend-protocol"),
        "{this}: health is asked in another protocol"
    );
}

fn balancer_attributes(ingress: &Value, group: &BTreeMap<&str, &str>, problems: &mut Vec<String>) {
    let this = name(ingress);
    let balancer = &attributes(annotation(ingress, "load-balancer-attributes"));
    let expected = [
        (balancer, "routing.http2.enabled", "true"),
        // Server and balancer cut a silent stream together: see STREAM_IDLE_TIMEOUT.
        (balancer, "idle_timeout.timeout_seconds", "300"),
        (balancer, "client_keep_alive.seconds", "3600"),
        (
            group,
            "load_balancing.algorithm.type",
            "least_outstanding_requests",
        ),
    ];
    for (attributes, key, value) in expected {
        let there = attributes.get(key);
        must!(
            problems,
            there == Some(&value),
            "{this}: {key} is {there:?}"
        );
    }
    for key in balancer.keys().chain(group.keys()) {
        let known = *key == DELAY || expected.iter().any(|(_, known, _)| known == key);
        must!(problems, known, "{this}: attribute {key} is not known here");
    }
}

/// A path leads to pods that serve it, in their protocol, and that the balancer lets end their calls.
fn path_to_pods(
    found: &Manifests<'_>,
    ingress: &Value,
    path: &Value,
    delay: Option<u64>,
    servers: &Servers,
    problems: &mut Vec<String>,
) {
    let this = name(ingress);
    let to = &path["backend"]["service"];
    let port = &to["port"];
    let port = if port["name"].is_null() {
        &port["number"]
    } else {
        &port["name"]
    };
    let service = text(&path["path"]).strip_prefix('/').unwrap_or_default();
    let pods = match backend(found, servers, &to["name"], port, service) {
        Ok(pods) => pods,
        Err(problem) => {
            problems.push(format!("{this}: {problem}"));
            return;
        }
    };
    let kind = &path["pathType"];
    must!(
        problems,
        kind == "Prefix",
        "{this}: {} does not serve {kind} {service}",
        pods.name
    );
    let protocol = if pods.has_tls() { "HTTPS" } else { "HTTP" };
    must!(
        problems,
        annotation(ingress, "backend-protocol") == protocol,
        "{this}: {} speaks {protocol}",
        pods.name
    );
    // The pod ends its calls itself; the balancer must not do it before.
    must!(
        problems,
        delay > Some(pods.grace()),
        "{this}: cut after {delay:?} s, and {} may take {}",
        pods.name,
        pods.grace()
    );
}

/// `key=value,key=value`
fn attributes(text: &str) -> BTreeMap<&str, &str> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .collect()
}
