//! What must be true of pods: of all, and then of those of our servers, which are asked what they take.

use chassis::Config;
use serde_json::{Value, json};

use super::{
    documents::{Manifests, Pods, list, must, text},
    server::{Server, Servers},
};

pub(super) fn check(
    found: &Manifests<'_>,
    pods: &Pods<'_>,
    servers: &Servers,
    problems: &mut Vec<String>,
) {
    rights(found, pods, problems);
    references(found, pods, problems);
    match servers.get(pods.name) {
        Some(server) => self::server(found, pods, server, problems),
        None => must!(
            problems,
            pods.port("grpc-api").is_none(),
            "{}: server.rs does not know it",
            pods.name
        ),
    }
}

/// Pod Security's "restricted", and a root that nobody writes to.
fn rights(found: &Manifests<'_>, pods: &Pods<'_>, problems: &mut Vec<String>) {
    let of_pod = &pods.spec["securityContext"];
    let expected = json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    must!(
        problems,
        *of_pod == expected,
        "{}: securityContext {of_pod}",
        pods.name
    );
    let expected = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    let of_container = &pods.container()["securityContext"];
    must!(
        problems,
        *of_container == expected,
        "{}: its container's securityContext {of_container}",
        pods.name
    );
    let account = found.find("ServiceAccount", text(&pods.spec["serviceAccountName"]));
    let token = account.unwrap_or(pods.spec)["automountServiceAccountToken"] != false;
    must!(
        problems,
        !token,
        "{}: it gets a token for the API server",
        pods.name
    );
    must!(
        problems,
        pods.spec["enableServiceLinks"] == false,
        "{}: every Service becomes a variable",
        pods.name
    );
}

/// What a pod names is there.
fn references(found: &Manifests<'_>, pods: &Pods<'_>, problems: &mut Vec<String>) {
    let this = pods.name;
    let account = &pods.spec["serviceAccountName"];
    let known = account.is_null() || found.find("ServiceAccount", text(account)).is_some();
    must!(problems, known, "{this}: no ServiceAccount {account}");
    let names = |items: &Value| {
        list(items)
            .iter()
            .map(|item| item["name"].clone())
            .collect::<Vec<_>>()
    };
    let (mut mounted, mut volumes) = (
        names(&pods.container()["volumeMounts"]),
        names(&pods.spec["volumes"]),
    );
    mounted.sort_by_key(Value::to_string);
    volumes.sort_by_key(Value::to_string);
    must!(
        problems,
        mounted == volumes,
        "{this}: volumes {volumes:?}, mounted {mounted:?}"
    );
    for port in list(&pods.container()["ports"]) {
        let name = text(&port["name"]);
        let fits = name.len() <= 15
            && name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        must!(problems, fits, "{this}: a port cannot be named {name:?}");
    }
    let image = text(&pods.container()["image"]);
    let tag = image.rsplit_once(':').map(|(_, tag)| tag);
    must!(
        problems,
        tag.is_some_and(|tag| tag != "latest"),
        "{this}: image {image:?} has no tag of its own"
    );
}

/// What the server itself would say of its Deployment.
fn server(found: &Manifests<'_>, pods: &Pods<'_>, server: &Server, problems: &mut Vec<String>) {
    let this = pods.name;
    let ports = (pods.port("grpc-api"), pods.port("admin"));
    must!(
        problems,
        ports == (Some(server.port), Some(server.port + 1)),
        "{this}: ports {ports:?}"
    );
    let version = format!(":{}", chassis::VERSION);
    let image = text(&pods.container()["image"]);
    must!(
        problems,
        image.ends_with(&version),
        "{this}: image {image:?} is not {version}"
    );
    variables(pods, server, problems);
    let config = match server.config(&pods.environment()) {
        Ok(config) => config,
        Err(error) => return problems.push(format!("{this}: {error}")),
    };
    for kind in ["startupProbe", "livenessProbe", "readinessProbe"] {
        probe(pods, kind, server, problems);
    }
    ending(pods, &config, problems);
    resources(pods, server, &config, problems);
    replacing(found, pods, problems);
}

/// Its variables are settings of the server, each set once, and those of the pod come from the pod.
fn variables(pods: &Pods<'_>, server: &Server, problems: &mut Vec<String>) {
    let this = pods.name;
    let said = pods.environment();
    for variable in said.keys() {
        must!(
            problems,
            server.settings.contains(variable),
            "{this}: {variable} is no setting"
        );
    }
    let paths = [
        ("POD_IP", "status.podIP"),
        ("POD_NAME", "metadata.name"),
        ("NODE_NAME", "spec.nodeName"),
        ("ZONE", "metadata.labels['topology.kubernetes.io/zone']"),
    ];
    for (variable, path) in paths {
        let source = &pods.variable(variable)["valueFrom"]["fieldRef"]["fieldPath"];
        must!(
            problems,
            source == path,
            "{this}: {variable} is {source}, not {path}"
        );
    }
    // Of several, the last one counts, and nobody sees it.
    let count = list(&pods.container()["env"]).len();
    must!(
        problems,
        count == said.len(),
        "{this}: a variable is set twice"
    );
}

/// It is unready before it sends GOAWAY, and has the time that its end may take.
fn ending(pods: &Pods<'_>, config: &Config, problems: &mut Vec<String>) {
    let this = pods.name;
    let lame_duck = config.lame_duck.as_secs();
    let ready = &pods.container()["readinessProbe"];
    let (period, failures) = (
        ready["periodSeconds"].as_u64(),
        ready["failureThreshold"].as_u64(),
    );
    let unready_after = period
        .zip(failures)
        .map(|(period, failures)| period * failures);
    must!(
        problems,
        unready_after.is_some_and(|after| after < lame_duck),
        "{this}: unready only after {unready_after:?} s, GOAWAY after {lame_duck}"
    );

    let pre_stop = pods.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
    let needed = pre_stop.unwrap_or_default() + lame_duck + config.drain_timeout.as_secs();
    let grace = pods.grace();
    must!(
        problems,
        pre_stop.is_some() && grace > needed,
        "{this}: {grace} s to end, and it takes {needed}"
    );
}

/// Its memory is what its limits may take; its CPU has no limit.
fn resources(pods: &Pods<'_>, server: &Server, config: &Config, problems: &mut Vec<String>) {
    let this = pods.name;
    let resources = &pods.container()["resources"];
    let (memory, limit) = (
        &resources["requests"]["memory"],
        &resources["limits"]["memory"],
    );
    must!(
        problems,
        memory == limit && !memory.is_null(),
        "{this}: memory {memory} to {limit}"
    );
    must!(
        problems,
        resources["limits"]["cpu"].is_null(),
        "{this}: CPU is limited"
    );
    // In bytes, as measured, with 64 KiB of an unfinished message held by each call.
    const A_CONNECTION: u64 = 20_000;
    const A_CALL: u64 = 100_000;
    let stored = if pods.environment().contains_key("NOTES_URL") {
        0
    } else {
        server.notes_memory
    };
    let most = u64::from(config.limits.max_connections) * A_CONNECTION
        + u64::from(config.limits.max_calls) * A_CALL
        + stored;
    let mebibytes = text(limit)
        .strip_suffix("Mi")
        .and_then(|number| number.parse().ok());
    let there = mebibytes.unwrap_or(0u64) << 20;
    must!(
        problems,
        most <= there,
        "{this}: may take {most} bytes, has {there}"
    );
}

/// A rollout, a drain of a node and the loss of a zone leave enough pods.
fn replacing(found: &Manifests<'_>, pods: &Pods<'_>, problems: &mut Vec<String>) {
    let this = pods.name;
    let strategy = &pods.deployment["spec"]["strategy"]["rollingUpdate"];
    must!(
        problems,
        strategy["maxUnavailable"] == 0,
        "{this}: a rollout takes pods away first"
    );
    let spread = list(&pods.spec["topologySpreadConstraints"]);
    for key in ["topology.kubernetes.io/zone", "kubernetes.io/hostname"] {
        let by_key = spread.iter().any(|spread| spread["topologyKey"] == key);
        must!(problems, by_key, "{this}: not spread by {key}");
    }
    for kind in ["HorizontalPodAutoscaler", "PodDisruptionBudget"] {
        must!(
            problems,
            found.find(kind, this).is_some(),
            "{this}: no {kind}"
        );
    }
}

fn probe(pods: &Pods<'_>, kind: &str, server: &Server, problems: &mut Vec<String>) {
    let this = format!("{}: {kind}", pods.name);
    let probe = &pods.container()[kind];
    let of = |field: &str, default| probe[field].as_u64().unwrap_or(default);
    must!(
        problems,
        of("timeoutSeconds", 1) <= of("periodSeconds", 10),
        "{this}: longer than its period"
    );
    let service = match (&probe["grpc"], &probe["exec"]) {
        (grpc, Value::Null) if grpc.is_object() => {
            let listener = grpc["port"].as_u64().and_then(|port| pods.port_named(port));
            // The kubelet's probe knows no TLS, which the admin listener never has.
            let suits =
                listener == Some("admin") || (listener == Some("grpc-api") && !pods.has_tls());
            must!(problems, suits, "{this}: cannot ask port {}", grpc["port"]);
            // What all callers share must not have the process killed.
            must!(
                problems,
                kind == "readinessProbe" || listener == Some("admin"),
                "{this}: asks where callers do"
            );
            text(&grpc["service"]).to_owned()
        }
        (Value::Null, exec) if exec.is_object() => {
            let command: Vec<_> = list(&exec["command"]).iter().map(text).collect();
            let ours = command.first() == Some(&&*format!("/{}", pods.name));
            let asks = command.get(1) == Some(&"healthcheck") && server.takes(&command[1..]);
            must!(
                problems,
                ours && asks,
                "{this}: {command:?} is no command of the image"
            );
            let asked = command.iter().position(|word| *word == "--service");
            asked
                .and_then(|at| command.get(at + 1))
                .copied()
                .unwrap_or_default()
                .to_owned()
        }
        _ => return problems.push(format!("{this}: not one of grpc and exec")),
    };
    // Only readiness may depend on what a service depends on.
    let fits = if kind == "readinessProbe" {
        server.serves(&service)
    } else {
        service.is_empty()
    };
    must!(problems, fits, "{this}: asks for {service:?}");
}
