//! What `kubectl kustomize` makes of `k8s/`, for machines without it: as much of kustomize as the files
//! there use, and a panic at the first that they do not. Where there is a kubectl, a test compares the two.

use std::{fs, path::Path};

use json_patch::Patch as Operations;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

pub(super) const K8S: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s");

/// A `kustomization.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    namespace: Option<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    components: Vec<String>,
    #[serde(default)]
    patches: Vec<Patch>,
    #[serde(default)]
    images: Vec<Image>,
}

/// A file of JSON patches (RFC 6902), for one document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Target,
    path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// Where an image is, and which one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_name: Option<String>,
    new_tag: String,
}

/// The documents of an overlay, with these components on top.
pub(super) fn render(overlay: &str, components: &[&str]) -> Vec<Value> {
    let mut documents = Vec::new();
    add(
        &mut documents,
        &Path::new(K8S).join("overlays").join(overlay),
    );
    for component in components {
        let folder = Path::new(K8S).join("components").join(component);
        add(&mut documents, &folder);
    }
    documents
}

/// Adds the documents of a folder, and changes what is there already as it says.
fn add(documents: &mut Vec<Value>, folder: &Path) {
    let this: Kustomization = match &read(&folder.join("kustomization.yaml"))[..] {
        [one] => typed(one),
        more => panic!("{}: {} documents", folder.display(), more.len()),
    };
    for resource in &this.resources {
        let path = folder.join(resource);
        if path.is_dir() {
            add(documents, &path);
        } else {
            documents.extend(read(&path));
        }
    }
    for component in &this.components {
        add(documents, &folder.join(component));
    }
    for Patch { target, path } in &this.patches {
        let operations: Operations = match &read(&folder.join(path))[..] {
            [one] => typed(one),
            more => panic!("{path}: {} documents", more.len()),
        };
        let document = find(documents, &target.kind, &target.name);
        json_patch::patch(document, &operations).expect(path);
    }
    for document in documents {
        if let Some(namespace) = &this.namespace
            && document["kind"] != "Namespace"
        {
            document["metadata"]["namespace"] = namespace.as_str().into();
        }
        let containers = document.pointer_mut("/spec/template/spec/containers");
        for container in containers
            .into_iter()
            .flat_map(|list| list.as_array_mut())
            .flatten()
        {
            let named = |image: &&Image| container["image"] == image.name;
            if let Some(image) = this.images.iter().find(named) {
                let name = image.new_name.as_ref().unwrap_or(&image.name);
                container["image"] = format!("{name}:{}", image.new_tag).into();
            }
        }
    }
}

/// The document of this kind and name.
pub(super) fn find<'a>(documents: &'a mut [Value], kind: &str, name: &str) -> &'a mut Value {
    let mut documents = documents.iter_mut();
    documents
        .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// The documents of a file.
pub(super) fn read(path: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    documents(&text)
}

/// The documents of a text.
pub(super) fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .collect()
}

fn typed<T: DeserializeOwned>(value: &Value) -> T {
    T::deserialize(value).expect("no field but those that are known here")
}
