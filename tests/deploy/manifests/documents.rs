//! Documents that are applied together, and what is asked of them.

use std::collections::BTreeMap;

use serde_json::Value;

/// Adds a problem unless this holds.
macro_rules! must {
    ($problems:expr, $holds:expr, $($said:tt)+) => {
        if !$holds {
            $problems.push(format!($($said)+));
        }
    };
}
pub(super) use must;

/// The text of a value that may be none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list that may be none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What a document is called, with its kind.
pub(super) fn name(document: &Value) -> String {
    format!(
        "{} {}",
        text(&document["kind"]),
        text(&document["metadata"]["name"])
    )
}

/// Whether these labels are among those.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let mut wanted = selector.as_object().into_iter().flatten();
    wanted.all(|(key, value)| labels[key] == *value)
}

/// Documents that are applied together.
pub(super) struct Manifests<'a> {
    pub(super) documents: &'a [Value],
}

impl<'a> Manifests<'a> {
    pub(super) fn all(&self, kind: &str) -> impl Iterator<Item = &'a Value> {
        (self.documents.iter()).filter(move |document| document["kind"] == kind)
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&'a Value> {
        self.all(kind)
            .find(|document| document["metadata"]["name"] == name)
    }

    /// The pods that these labels select.
    pub(super) fn selected(&self, labels: &Value) -> Vec<Pods<'a>> {
        let pods = self.all("Deployment").map(Pods::of);
        pods.filter(|pods| selects(labels, pods.labels)).collect()
    }

    /// The pods behind a Service, and the number of one of its ports, by name or number.
    pub(super) fn behind(&self, service: &str, port: &Value) -> Option<(Pods<'a>, u64)> {
        let spec = &self.find("Service", service)?["spec"];
        let [port] = list(&spec["ports"])
            .iter()
            .filter(|known| known["name"] == *port || known["port"] == *port)
            .collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let pods = self.selected(&spec["selector"]).pop()?;
        let number = pods.port(text(&port["targetPort"]))?;
        Some((pods, number))
    }

    /// Whether the namespace has readiness gates put into its pods.
    pub(super) fn gate(&self, label: &str) -> bool {
        self.all("Namespace")
            .all(|namespace| namespace["metadata"]["labels"][label] == "enabled")
    }
}

/// The pods of a Deployment, of one container each.
#[derive(Clone, Copy)]
pub(super) struct Pods<'a> {
    pub(super) name: &'a str,
    pub(super) deployment: &'a Value,
    pub(super) labels: &'a Value,
    pub(super) spec: &'a Value,
}

impl<'a> Pods<'a> {
    pub(super) fn of(deployment: &'a Value) -> Self {
        let template = &deployment["spec"]["template"];
        Self {
            name: text(&deployment["metadata"]["name"]),
            deployment,
            labels: &template["metadata"]["labels"],
            spec: &template["spec"],
        }
    }

    pub(super) fn container(&self) -> &'a Value {
        &self.spec["containers"][0]
    }

    /// The number of a port, by name.
    pub(super) fn port(&self, name: &str) -> Option<u64> {
        let port = list(&self.container()["ports"])
            .iter()
            .find(|port| port["name"] == name);
        port?["containerPort"].as_u64()
    }

    pub(super) fn port_named(&self, number: u64) -> Option<&'a str> {
        let port = list(&self.container()["ports"])
            .iter()
            .find(|port| port["containerPort"] == number);
        port.map(|port| text(&port["name"]))
    }

    pub(super) fn variable(&self, name: &str) -> &'a Value {
        let mut variables = list(&self.container()["env"]).iter();
        variables
            .find(|variable| variable["name"] == name)
            .unwrap_or(&Value::Null)
    }

    /// The variables that are set, with the values that are known before a pod is.
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let variables = list(&self.container()["env"]).iter();
        variables
            .map(|variable| {
                (
                    text(&variable["name"]).to_owned(),
                    text(&variable["value"]).to_owned(),
                )
            })
            .collect()
    }

    /// Whether they serve TLS.
    pub(super) fn has_tls(&self) -> bool {
        !self.variable("TLS_CERT").is_null()
    }

    /// How many seconds they have to end.
    pub(super) fn grace(&self) -> u64 {
        self.spec["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30)
    }
}
