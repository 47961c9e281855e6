"""What the files of k8s/ say once they are put together."""

import contextlib
import copy
import functools
import os
import string
import subprocess

import yaml

from conftest import ROOT

K8S = ROOT / "k8s"
OVERLAYS = sorted(folder.name for folder in (K8S / "overlays").iterdir())
COMPONENTS = sorted(folder.name for folder in (K8S / "components").iterdir())
# What docs/deploy/eks.md has envsubst put in.
VARIABLES = {
    "AWS_ACCOUNT_ID": "123456789012",
    "AWS_REGION": "eu-central-1",
    "CERTIFICATE_ARN": "arn:aws:acm:eu-central-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef",
    "DOMAIN": "example.com",
}


def substitute(text):
    # Kubernetes has variables of its own, which look like $(THIS).
    text = string.Template(text).safe_substitute(VARIABLES)
    assert "${" not in text, "a variable that nobody knows"
    return text


def variants():
    """Every overlay, and the local one with each component that it does not have yet."""
    has = yaml.safe_load((K8S / "overlays/local/kustomization.yaml").read_text())["components"]
    has = {component.rpartition("/")[2] for component in has}
    return [*OVERLAYS, *(f"local+{name}" for name in COMPONENTS if name not in has)]


@functools.cache
def render(variant):
    """The manifests of an overlay with components, as text: local+tls, for one."""
    overlay, *components = variant.split("+")
    folder = K8S / "overlays" / overlay
    if components:
        folder = ROOT / "target/full/kustomize" / variant
        folder.mkdir(parents=True, exist_ok=True)
        # Kustomize takes no absolute paths.
        beside = lambda *path: os.path.relpath(K8S.joinpath(*path), folder)
        kustomization = {
            "resources": [beside("overlays", overlay)],
            "components": [beside("components", name) for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    rendered = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    assert rendered.returncode == 0 and rendered.stderr == "", rendered.stderr
    return substitute(rendered.stdout)


def documents(variant):
    return list(yaml.safe_load_all(render(variant)))


def document(variant, kind, name):
    """The one of this kind and name."""
    named = lambda it: (it["kind"], it["metadata"]["name"]) == (kind, name)
    [found] = filter(named, documents(variant))
    return found


def with_value(document, path, value):
    """A copy with another value at this path; its last part may be new."""
    *path, last = path
    changed = inner = copy.deepcopy(document)
    for part in path:
        inner = inner[part]
    inner[last] = value
    return changed


@contextlib.contextmanager
def read(fields):
    """A copy of some fields to take from; whoever uses it must take them all."""
    rest = dict(fields)
    yield rest
    if rest:
        raise NotImplementedError(f"nothing here knows {sorted(rest)}")
