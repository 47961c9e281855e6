//! What must be true of manifests that are applied together, beyond what an API server looks at.

use serde_json::{Value, json};

use super::{
    alb,
    documents::{Manifests, Pods, list, must, name, selects, text},
    lattice, pods,
    server::Servers,
    types,
};

/// All that is wrong with these documents.
pub(super) fn problems(documents: &[Value], servers: &Servers) -> Vec<String> {
    let mut problems = Vec::new();
    let found = Manifests { documents };
    for document in documents {
        types::check(document, &mut problems);
    }
    names(&found, &mut problems);
    selectors(&found, &mut problems);
    services(&found, &mut problems);
    network(&found, &mut problems);
    scaling(&found, servers, &mut problems);
    for deployment in found.all("Deployment") {
        pods::check(&found, &Pods::of(deployment), servers, &mut problems);
    }
    alb::check(&found, servers, &mut problems);
    lattice::check(&found, servers, &mut problems);
    problems
}

/// The pods behind this name and port of a Service, if they serve this, and else why not.
pub(super) fn backend<'a>(
    found: &Manifests<'a>,
    servers: &Servers,
    name: &Value,
    port: &Value,
    service: &str,
) -> Result<Pods<'a>, String> {
    let behind = found.behind(text(name), port);
    let (pods, port) = behind.ok_or_else(|| format!("there is no {name}:{port}"))?;
    if pods.port("grpc-api") != Some(port) {
        return Err(format!("{name}:{port} serves no gRPC"));
    }
    let server = servers.get(pods.name);
    match server.is_some_and(|server| server.serves(service)) {
        true => Ok(pods),
        false => Err(format!("{} does not serve {service:?}", pods.name)),
    }
}

fn names(found: &Manifests<'_>, problems: &mut Vec<String>) {
    let [namespace] = found.all("Namespace").collect::<Vec<_>>()[..] else {
        return problems.push("not one Namespace".to_owned());
    };
    let labels = &namespace["metadata"]["labels"];
    let level = &labels["pod-security.kubernetes.io/enforce"];
    must!(
        problems,
        level == "restricted",
        "Pod Security enforces {level}"
    );
    let mut names: Vec<_> = found.documents.iter().map(name).collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    must!(problems, twice.is_none(), "{twice:?}: the same name");
    for document in found
        .documents
        .iter()
        .filter(|document| document["kind"] != "Namespace")
    {
        let found = &document["metadata"]["namespace"];
        let there = *found == namespace["metadata"]["name"];
        must!(problems, there, "{}: in namespace {found}", name(document));
    }
}

/// Everything that selects pods selects some, and a Deployment its own.
fn selectors(found: &Manifests<'_>, problems: &mut Vec<String>) {
    for deployment in found.all("Deployment") {
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        let pods = Pods::of(deployment);
        must!(
            problems,
            selects(selector, pods.labels),
            "{}: selects other pods",
            name(deployment)
        );
        for spread in list(&pods.spec["topologySpreadConstraints"]) {
            let own = &spread["labelSelector"]["matchLabels"];
            must!(
                problems,
                selects(own, pods.labels),
                "{}: spreads other pods",
                name(deployment)
            );
        }
    }
    let paths = [
        ("Service", "/spec/selector"),
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ];
    for (kind, path) in paths {
        for document in found.all(kind) {
            // A policy may be for all pods.
            let Some(labels) = document.pointer(path) else {
                continue;
            };
            let count = found.selected(labels).len();
            must!(
                problems,
                count == 1,
                "{}: selects {count} Deployments",
                name(document)
            );
        }
    }
}

fn services(found: &Manifests<'_>, problems: &mut Vec<String>) {
    for service in found.all("Service") {
        let this = name(service);
        let spec = &service["spec"];
        for port in list(&spec["ports"]) {
            let target = text(&port["targetPort"]);
            let number = found
                .selected(&spec["selector"])
                .iter()
                .find_map(|pods| pods.port(target));
            must!(
                problems,
                number.is_some(),
                "{this}: no container has a port {target:?}"
            );
            // Clients of a headless one connect to the pods' port, whatever stands here.
            must!(
                problems,
                number == port["port"].as_u64(),
                "{this}: port {} is not the pods'",
                port["port"]
            );
        }
    }
    for pods in found
        .all("Deployment")
        .map(Pods::of)
        .filter(|pods| pods.port("grpc-api").is_some())
    {
        let h2c = if pods.has_tls() {
            Value::Null
        } else {
            "kubernetes.io/h2c".into()
        };
        let (mut headless, mut with_address) = (0, 0);
        for service in found
            .all("Service")
            .filter(|service| selects(&service["spec"]["selector"], pods.labels))
        {
            if service["spec"]["clusterIP"] == "None" {
                headless += 1
            } else {
                with_address += 1
            }
            let says = &service["spec"]["ports"][0]["appProtocol"];
            must!(
                problems,
                *says == h2c,
                "{}: appProtocol {says}, not {h2c}",
                name(service)
            );
        }
        must!(
            problems,
            (headless, with_address) == (1, 1),
            "{}: {headless} headless Services, {with_address} others",
            pods.name
        );
    }
}

fn network(found: &Manifests<'_>, problems: &mut Vec<String>) {
    let denied = found.all("NetworkPolicy").any(|policy| {
        policy["spec"] == json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    });
    must!(problems, denied, "no NetworkPolicy denies by default");
    let mut admitted = Vec::new();
    for policy in found.all("NetworkPolicy") {
        let pods = found.selected(&policy["spec"]["podSelector"]["matchLabels"]);
        for rule in list(&policy["spec"]["ingress"]) {
            for port in list(&rule["ports"]) {
                let port = text(&port["port"]);
                let known = pods.iter().any(|pods| pods.port(port).is_some());
                must!(
                    problems,
                    known,
                    "{}: its pods have no port {port:?}",
                    name(policy)
                );
                admitted.extend(pods.iter().map(|pods| (pods.name, port)));
            }
        }
        for rule in list(&policy["spec"]["egress"]) {
            for peer in list(&rule["to"])
                .iter()
                .filter(|peer| peer["namespaceSelector"].is_null())
            {
                let to = found.selected(&peer["podSelector"]["matchLabels"]);
                let known = list(&rule["ports"]).iter().all(|port| {
                    to.iter()
                        .any(|pods| pods.port(text(&port["port"])).is_some())
                });
                must!(problems, known, "{}: nothing there listens", name(policy));
            }
        }
    }
    for pods in found.all("Deployment").map(Pods::of) {
        for port in list(&pods.container()["ports"]) {
            let port = (pods.name, text(&port["name"]));
            must!(
                problems,
                admitted.contains(&port),
                "no NetworkPolicy lets anyone to {port:?}"
            );
        }
    }
}

fn scaling(found: &Manifests<'_>, servers: &Servers, problems: &mut Vec<String>) {
    for budget in found.all("PodDisruptionBudget") {
        must!(
            problems,
            budget["spec"]["maxUnavailable"] == 1,
            "{}: not one pod at a time",
            name(budget)
        );
    }
    for scaler in found.all("HorizontalPodAutoscaler") {
        scaler_of_pods(found, scaler, servers, problems);
    }
}

/// It scales pods that there are, by what they say, and no sooner than connections move.
fn scaler_of_pods(
    found: &Manifests<'_>,
    scaler: &Value,
    servers: &Servers,
    problems: &mut Vec<String>,
) {
    let this = name(scaler);
    let spec = &scaler["spec"];
    let target = &spec["scaleTargetRef"];
    let Some(deployment) = found.find(text(&target["kind"]), text(&target["name"])) else {
        problems.push(format!("{this}: there is no {target}"));
        return;
    };
    let pods = Pods::of(deployment);
    must!(
        problems,
        deployment["apiVersion"] == target["apiVersion"],
        "{this}: {target} has another version"
    );
    must!(
        problems,
        deployment["spec"]["replicas"].is_null(),
        "{this}: the Deployment counts its replicas, too"
    );
    let (min, max) = (spec["minReplicas"].as_u64(), spec["maxReplicas"].as_u64());
    must!(
        problems,
        min.is_some_and(|min| min >= 2) && min < max,
        "{this}: {min:?} to {max:?} replicas"
    );
    let Some(server) = servers.get(pods.name) else {
        return;
    };
    for metric in list(&spec["metrics"]) {
        let resource = text(&metric["resource"]["name"]);
        let of_pods = text(&metric["pods"]["metric"]["name"]);
        let known = !pods.container()["resources"]["requests"][resource].is_null()
            || server.metrics.contains(&format!("\n{of_pods} "));
        must!(problems, known, "{this}: nothing gives {metric}");
    }
    // Until connections are that old, new pods have but few of them, and more would be made.
    let age = server
        .config(&pods.environment())
        .map(|config| config.limits.max_connection_age.as_secs());
    let up = &spec["behavior"]["scaleUp"]["policies"][0]["periodSeconds"];
    must!(
        problems,
        age.is_ok_and(|age| up.as_u64() >= Some(age)),
        "{this}: scales up every {up} s"
    );
    let down = &spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"];
    must!(
        problems,
        down.as_u64() >= Some(300),
        "{this}: scales down after {down} s"
    );
}
