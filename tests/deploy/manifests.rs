//! The manifests of `k8s/`: what they are made of, what they name, and what must add up; and that each of
//! these rules finds the mistakes that it is for.

use std::process::Command;

use harness::installed;
use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Value, from_value, json};

mod alb;
mod documents;
mod kustomize;
mod lattice;
mod pods;
mod rules;
mod server;
mod types;

use kustomize::{find, render};
use rules::problems;

/// What can be applied: an overlay, and what is added to it.
const COMBINATIONS: [(&str, &[&str]); 6] = [
    ("local", &[]),
    ("local", &["tls"]),
    ("local", &["in-flight"]),
    ("eks", &[]),
    ("eks", &["in-flight"]),
    ("lattice", &[]),
];

#[tokio::test]
async fn nothing_is_wrong_with_any_overlay() {
    let servers = server::all().await;
    for (overlay, components) in COMBINATIONS {
        let problems = problems(&render(overlay, components), &servers);
        assert!(
            problems.is_empty(),
            "{overlay} with {components:?}: {problems:#?}"
        );
    }
}

/// Mistakes in a document of an overlay.
#[derive(Deserialize)]
struct Mistakes {
    overlay: String,
    #[serde(default)]
    components: Vec<String>,
    document: String,
    /// What stands at a path, null for nothing, and a part of what is said of it.
    mistakes: Vec<(String, Value, String)>,
}

#[tokio::test]
async fn every_mistake_is_found() {
    let servers = server::all().await;
    let table: Vec<Mistakes> =
        serde_yaml_ng::from_str(include_str!("manifests/mistakes.yaml")).expect("mistakes");
    for Mistakes {
        overlay,
        components,
        document,
        mistakes,
    } in table
    {
        let components: Vec<_> = components.iter().map(String::as_str).collect();
        let right = render(&overlay, &components);
        let (kind, name) = document.split_once(' ').expect("a kind and a name");
        for (path, value, problem) in mistakes {
            let mut wrong = right.clone();
            put(find(&mut wrong, kind, name), &path, value);
            let problems = problems(&wrong, &servers);
            let said = problems.iter().any(|said| said.contains(&problem));
            assert!(
                said,
                "{document} {path}: {problem:?} is not among {problems:#?}"
            );
        }
    }
}

/// Puts a value to a path of a document.
fn put(document: &mut Value, path: &str, value: Value) {
    let annotation = "/metadata/annotations/alb.ingress.kubernetes.io~1";
    let path = path
        .replace("CONTAINER", "POD/containers/0")
        .replace("POD", "/spec/template/spec")
        .replace("ANNOTATION", annotation);
    let operation = match (document.pointer(&path), value) {
        (_, Value::Null) => json!({"op": "remove", "path": path}),
        (None, value) => json!({"op": "add", "path": path, "value": value}),
        (Some(_), value) => json!({"op": "replace", "path": path, "value": value}),
    };
    let patch: Patch = from_value(json!([operation])).expect("a patch");
    json_patch::patch(document, &patch).expect(&path);
}

#[test]
fn kubectl_makes_the_same_documents_of_an_overlay() {
    if installed("kubectl").is_none() {
        return;
    }
    for overlay in ["local", "eks", "lattice"] {
        let folder = format!("{}/overlays/{overlay}", kustomize::K8S);
        let mut kubectl = Command::new("kubectl");
        let output = kubectl
            .args(["kustomize", &folder])
            .output()
            .expect("kubectl");
        let text = String::from_utf8(output.stdout).expect("text");
        let sorted = |mut documents: Vec<Value>| {
            documents.sort_by_key(documents::name);
            documents
        };
        let theirs = sorted(kustomize::documents(&text));
        assert!(
            !theirs.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(sorted(render(overlay, &[])), theirs);
    }
}

#[test]
fn the_cluster_has_the_addresses_that_the_alb_sends_from() {
    let file = format!("{}/eksctl/cluster.yaml", kustomize::K8S);
    let [cluster] = &kustomize::read(file.as_ref())[..] else {
        panic!("not one document");
    };
    let mut documents = render("eks", &[]);
    for server in ["route-guide", "greeter"] {
        let policy = find(&mut documents, "NetworkPolicy", server);
        let peers = documents::list(&policy["spec"]["ingress"][0]["from"]);
        let blocks = peers.iter().filter(|peer| peer["ipBlock"].is_object());
        let blocks: Vec<_> = blocks.map(|peer| &peer["ipBlock"]["cidr"]).collect();
        assert_eq!(blocks, [&cluster["vpc"]["cidr"]]);
    }
}
