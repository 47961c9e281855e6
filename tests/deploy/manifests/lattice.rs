//! What the AWS Gateway API Controller wants of routes and target groups, for VPC Lattice.
//! <https://www.gateway-api-controller.eks.aws.dev/latest/api-types/grpc-route/>

use serde_json::{Value, json};

use super::{
    documents::{Manifests, list, must, name, text},
    rules::backend,
    server::Servers,
};

pub(super) fn check(found: &Manifests<'_>, servers: &Servers, problems: &mut Vec<String>) {
    for route in found.all("GRPCRoute") {
        let this = name(route);
        for parent in list(&route["spec"]["parentRefs"]) {
            let gateway = found.find("Gateway", text(&parent["name"]));
            let listeners = gateway.map(|gateway| list(&gateway["spec"]["listeners"]));
            let listener = listeners
                .unwrap_or_default()
                .iter()
                .find(|listener| listener["name"] == parent["sectionName"]);
            must!(
                problems,
                listener.is_some_and(|listener| listener["protocol"] == "HTTPS"),
                "{this}: {parent} is no HTTPS listener"
            );
        }
        for rule in list(&route["spec"]["rules"]) {
            route_rule(found, servers, &this, rule, problems);
        }
    }
    for policy in found.all("TargetGroupPolicy") {
        target_group_policy(found, policy, problems);
    }
    for gateway in found.all("Gateway") {
        gateway_of_routes(found, gateway, problems);
    }
}

/// One method's rule leads to pods that serve it and let Lattice in, over HTTP/2.
fn route_rule(
    found: &Manifests<'_>,
    servers: &Servers,
    this: &str,
    rule: &Value,
    problems: &mut Vec<String>,
) {
    // <https://docs.aws.amazon.com/vpc-lattice/latest/ug/how-it-works.html>
    let from_lattice = json!({"ipBlock": {"cidr": "169.254.171.0/24"}});
    let [wanted] = list(&rule["matches"]) else {
        problems.push(format!("{this}: not one match"));
        return;
    };
    let [to] = list(&rule["backendRefs"]) else {
        problems.push(format!("{this}: not one backend"));
        return;
    };
    let service = text(&wanted["method"]["service"]);
    let pods = match backend(found, servers, &to["name"], &to["port"], service) {
        Ok(pods) => pods,
        Err(problem) => {
            problems.push(format!("{this}: {problem}"));
            return;
        }
    };
    let kind = &wanted["method"]["type"];
    must!(problems, kind == "Exact", "{this}: {kind} {service}");
    let admitted = found
        .find("NetworkPolicy", pods.name)
        .is_some_and(|policy| {
            let rules = list(&policy["spec"]["ingress"]);
            rules
                .iter()
                .all(|rule| list(&rule["from"]).contains(&from_lattice))
        });
    must!(
        problems,
        admitted,
        "{this}: no NetworkPolicy lets Lattice to all ports of {}",
        pods.name
    );
    let policy = found.all("TargetGroupPolicy").find(|policy| {
        policy["spec"]["targetRef"] == json!({"group": "", "kind": "Service", "name": to["name"]})
    });
    must!(
        problems,
        policy.is_some(),
        "{this}: {} has no TargetGroupPolicy, and would get HTTP/1",
        to["name"]
    );
}

/// It has Lattice speak to the pods as they speak, and ask their health on the admin port.
fn target_group_policy(found: &Manifests<'_>, policy: &Value, problems: &mut Vec<String>) {
    let this = name(policy);
    let spec = &policy["spec"];
    let target = text(&spec["targetRef"]["name"]);
    let Some((pods, _)) = found.behind(target, &"grpc-api".into()) else {
        problems.push(format!("{this}: there is no Service {target}"));
        return;
    };
    let protocol = if pods.has_tls() { "HTTPS" } else { "HTTP" };
    let ways = (text(&spec["protocol"]), text(&spec["protocolVersion"]));
    must!(
        problems,
        ways == (protocol, "HTTP2"),
        "{this}: the pods do not speak {ways:?}"
    );
    let check = &spec["healthCheck"];
    must!(
        problems,
        check["port"].as_u64() == pods.port("admin"),
        "{this}: health is not asked of the admin port"
    );
    let expected = json!({"enabled": true, "protocol": "HTTP", "protocolVersion": "HTTP1", "path": "/readyz", "statusMatch": "200"});
    for (field, value) in expected.as_object().into_iter().flatten() {
        must!(
            problems,
            check[field] == *value,
            "{this}: health check's {field} is {}",
            check[field]
        );
    }
    let (interval, timeout) = (
        check["intervalSeconds"].as_u64(),
        check["timeoutSeconds"].as_u64(),
    );
    must!(
        problems,
        timeout < interval && interval >= Some(5),
        "{this}: {timeout:?} s every {interval:?} s"
    );
}

fn gateway_of_routes(found: &Manifests<'_>, gateway: &Value, problems: &mut Vec<String>) {
    let used = found.all("GRPCRoute").any(|route| {
        list(&route["spec"]["parentRefs"])
            .iter()
            .any(|parent| parent["name"] == gateway["metadata"]["name"])
    });
    must!(problems, used, "{}: no route", name(gateway));
    must!(
        problems,
        gateway["spec"]["gatewayClassName"] == "amazon-vpc-lattice",
        "{}: of another class",
        name(gateway)
    );
    for listener in list(&gateway["spec"]["listeners"]) {
        let certificate =
            &listener["tls"]["options"]["application-networking.k8s.aws/certificate-arn"];
        must!(
            problems,
            certificate == "${CERTIFICATE_ARN}",
            "{}: certificate {certificate}",
            name(gateway)
        );
    }
    let gate = found.gate("application-networking.k8s.aws/pod-readiness-gate-inject");
    must!(
        problems,
        gate,
        "pods are ready before Lattice finds them healthy"
    );
}
