"""The manifests of k8s/ before validators that others wrote. They see each document by itself.

The schemas of Gateway, GRPCRoute, TargetGroupPolicy and eksctl's cluster come from their own projects; no registry
of packages has them all. CRD_SCHEMAS may name a folder with them: GROUP_PLURAL.yaml for each CustomResource-
Definition, and eksctl-clusterconfig.json. Without it, those checks do not exist; cargo test's, of types, do."""

import json
import os
import pathlib
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import yaml

from conftest import ROOT
from kustomize import K8S, documents, render, substitute, variants, with_value

CUSTOM = {
    "Gateway": "gateway.networking.k8s.io_gateways.yaml",
    "GRPCRoute": "gateway.networking.k8s.io_grpcroutes.yaml",
    "TargetGroupPolicy": "application-networking.k8s.aws_targetgrouppolicies.yaml",
}
# Since 1.30, a cluster knows everything that the manifests say.
VERSIONS = [
    version for version in map(kubernetes_validate.utils.major_minor, kubernetes_validate.utils.all_versions())
    if int(version.partition(".")[2]) >= 30
]


def first(kind, variant):
    return next(document for document in documents(variant) if document["kind"] == kind)


# Kinds of Kubernetes itself


def built_in():
    """Every document of a built-in kind, once, though most are in several overlays."""
    found = [document for variant in variants() for document in documents(variant)]
    return [json.loads(text) for text in {json.dumps(it) for it in found if it["kind"] not in CUSTOM}]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_one_that_kubernetes_takes(version):
    for document in built_in():
        kubernetes_validate.validate(document, version, strict=True)


CONTAINER = ("spec", "template", "spec", "containers", 0)
BROKEN = {
    "a field that does not exist": ("Deployment", (*CONTAINER, "livenessprobe"), {}),
    "text for a number": ("HorizontalPodAutoscaler", ("spec", "minReplicas"), "3"),
    "a kind of an old version": ("HorizontalPodAutoscaler", ("apiVersion",), "autoscaling/v2beta2"),
    "a kind that does not exist": ("Service", ("kind",), "Servise"),
}


@pytest.mark.parametrize("kind, path, value", BROKEN.values(), ids=BROKEN)
def test_what_kubernetes_would_refuse_is_refused(kind, path, value):
    refusals = kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError
    with pytest.raises(refusals):
        kubernetes_validate.validate(with_value(first(kind, "local"), path, value), VERSIONS[-1], strict=True)


# Kinds of others

SCHEMAS = pathlib.Path(os.environ["CRD_SCHEMAS"]) if "CRD_SCHEMAS" in os.environ else None


def closed(schema):
    """The schema, which refuses what it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: closed(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict):
        schema.setdefault("additionalProperties", False)
    return schema


def check_custom(document):
    definition = yaml.safe_load((SCHEMAS / CUSTOM[document["kind"]]).read_text())["spec"]
    name = document["apiVersion"].rpartition("/")[2]
    [schema] = (it["schema"]["openAPIV3Schema"] for it in definition["versions"] if it["name"] == name)
    # Of the metadata, Kubernetes knows more.
    schema["properties"]["metadata"] = {}
    jsonschema.validate(document, closed(schema))


def check_cluster(document):
    jsonschema.validate(document, closed(json.loads((SCHEMAS / "eksctl-clusterconfig.json").read_text())))


def cluster():
    return yaml.safe_load(substitute((K8S / "eksctl/cluster.yaml").read_text()))


if SCHEMAS:

    def test_every_document_of_a_custom_kind_is_one_that_its_schema_takes():
        custom = [document for document in documents("lattice") if document["kind"] in CUSTOM]
        assert {document["kind"] for document in custom} == set(CUSTOM)
        for document in custom:
            check_custom(document)

    def test_the_cluster_is_one_that_eksctl_takes():
        check_cluster(cluster())

    BROKEN_CUSTOM = {
        "Gateway": (("spec", "listeners", 0, "tls", "mode"), "Terminated"),
        "GRPCRoute": (("spec", "rules", 0, "match"), []),
        "TargetGroupPolicy": (("spec", "healthCheck", "statusmatch"), "200"),
    }

    @pytest.mark.parametrize("kind", CUSTOM)
    def test_what_a_custom_schema_does_not_name_is_refused(kind):
        with pytest.raises(jsonschema.ValidationError):
            check_custom(with_value(first(kind, "lattice"), *BROKEN_CUSTOM[kind]))

    def test_a_cluster_that_eksctl_would_refuse_is_refused():
        with pytest.raises(jsonschema.ValidationError):
            check_cluster(with_value(cluster(), ("managedNodeGroups", 0, "instancetype"), "t4g.medium"))


# Advice


def advised_against(text, tmp_path):
    """The names of the checks that fail, but for those that tests/full/checkov.yaml gives reasons to skip."""
    (tmp_path / "manifests.yaml").write_text(text)
    command = [ROOT / "target/full/checkov/bin/checkov", "--config-file", ROOT / "tests/full/checkov.yaml"]
    outcome = subprocess.run(
        [*command, "--file", tmp_path / "manifests.yaml", "--output", "json"], capture_output=True, text=True
    )
    found = json.loads(outcome.stdout)
    assert found["summary"]["parsing_errors"] == 0 and found["summary"]["resource_count"] > 0, found["summary"]
    return {(check["check_id"], check["check_name"]) for check in found["results"]["failed_checks"]}


@pytest.mark.parametrize("variant", variants())
def test_checkov_finds_nothing(variant, tmp_path):
    assert advised_against(render(variant), tmp_path) == set()


def test_checkov_finds_a_container_that_may_write_to_its_root(tmp_path):
    path = (*CONTAINER, "securityContext", "readOnlyRootFilesystem")
    broken = yaml.safe_dump(with_value(first("Deployment", "local"), path, False))
    assert "CKV_K8S_22" in {name for name, _ in advised_against(broken, tmp_path)}
