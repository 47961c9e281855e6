"""A pod's manifest as `docker run` can carry it out. What this does not know it refuses, so that no field of
a manifest is tested by being ignored."""

import re

from kustomize import read
from probes import Probe

# To the kubelet: they are for the scheduler and the API server.
MEANS_NOTHING = ["serviceAccountName", "automountServiceAccountToken", "topologySpreadConstraints"]
UNITS = {"": 1, "m": 1e-3, "Mi": 2**20}
# What the engine calls a CPU.
SHARES = 1024


class Manifest:
    """The template of a pod with one container."""

    def __init__(self, template):
        self.labels = template["metadata"]["labels"]
        with read(template["spec"]) as spec:
            for field in MEANS_NOTHING:
                spec.pop(field, None)
            assert spec.pop("enableServiceLinks") is False, "nothing here makes them"
            self.grace = spec.pop("terminationGracePeriodSeconds", 30)
            self.volumes = dict(map(volume, spec.pop("volumes", [])))
            context = spec.pop("securityContext", {})
            [container] = spec.pop("containers")
        with read(container) as it:
            self.name, self.image = it.pop("name"), it.pop("image")
            self.args, self.env = it.pop("args", []), it.pop("env", [])
            self.ports = {port["name"]: port["containerPort"] for port in it.pop("ports", [])}
            self.mounts = it.pop("volumeMounts", [])
            self.hook = hook(it.pop("lifecycle", {}))
            self.probes = {
                kind: Probe(it.pop(f"{kind}Probe"), self.ports)
                for kind in ["startup", "liveness", "readiness"] if f"{kind}Probe" in it
            }
            self.flags = confinement(context | it.pop("securityContext", {})) + bounds(it.pop("resources", {}))

    def command(self, facts, secrets, folder):
        """The flags and arguments of `docker run` for a pod with these facts and this folder."""
        env = dict(variable(entry, facts, secrets) for entry in self.env)
        args = [re.sub(r"\$\((\w+)\)", lambda name: env[name[1]], arg) for arg in self.args]
        mounts = [self.mount(mount, secrets, folder) for mount in self.mounts]
        return [*self.flags, *mounts, *(f"--env={name}={value}" for name, value in env.items())], args

    def mount(self, mount, secrets, folder):
        with read(mount) as it:
            name, path = it.pop("name"), it.pop("mountPath")
            options = ",readonly" if it.pop("readOnly", False) else ""
        source = folder / name
        source.mkdir(exist_ok=True)
        if secret := self.volumes[name]:
            for file, content in secrets[secret].items():
                (source / file).write_bytes(content)
        else:
            source.chmod(0o777)
        return f"--mount=type=bind,source={source},target={path}{options}"


def volume(fields):
    """Its name, and the Secret that it holds unless it is an empty folder."""
    with read(fields) as it:
        name = it.pop("name")
        with read(it.pop("secret", {})) as secret, read(it.pop("emptyDir", {})) as empty:
            # Whoever writes more is evicted, which is not done here.
            empty.pop("sizeLimit", None)
            return name, secret.pop("secretName", None)


def hook(lifecycle):
    """How many seconds it sleeps before it is told to end."""
    with read(lifecycle) as it, read(it.pop("preStop", {})) as hook, read(hook.pop("sleep", {})) as sleep:
        return sleep.pop("seconds", 0)


def variable(entry, facts, secrets):
    """Its name and its value."""
    with read(entry) as it:
        name, value = it.pop("name"), it.pop("value", "")
        with read(it.pop("valueFrom", {})) as source:
            if path := source.pop("fieldRef", {}).get("fieldPath"):
                value = field(path, facts)
            if key := source.pop("secretKeyRef", None):
                value = secrets[key["name"]][key["key"]].decode()
    return name, value


def field(path, facts):
    label = re.fullmatch(r"metadata\.labels\['(.*)'\]", path)
    return facts["metadata.labels"].get(label[1], "") if label else facts[path]


def confinement(context):
    with read(context) as it, read(it.pop("capabilities")) as capabilities:
        user, group = it.pop("runAsUser"), it.pop("runAsGroup")
        assert it.pop("runAsNonRoot") and user > 0
        # The engine's own, too.
        assert it.pop("seccompProfile") == {"type": "RuntimeDefault"}
        flags = [f"--user={user}:{group}", *(f"--cap-drop={name}" for name in capabilities.pop("drop"))]
        if it.pop("readOnlyRootFilesystem"):
            flags.append("--read-only")
        if not it.pop("allowPrivilegeEscalation"):
            flags.append("--security-opt=no-new-privileges")
    return flags


def bounds(resources):
    with read(resources) as it, read(it.pop("limits")) as limits, read(it.pop("requests")) as requests:
        # The memory that is asked for is the scheduler's affair.
        requests.pop("memory")
        shares, memory = SHARES * quantity(requests.pop("cpu")), quantity(limits.pop("memory"))
    # The engine would let it swap as much again.
    return [f"--cpu-shares={shares:.0f}", f"--memory={memory:.0f}", f"--memory-swap={memory:.0f}"]


def quantity(text):
    number, unit = re.fullmatch(r"(\d+)(\D*)", text).groups()
    return int(number) * UNITS[unit]
