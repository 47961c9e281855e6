"""A pod's manifest as `docker run` can carry it out. What this does not know it refuses, so that no field of
a manifest is tested by being ignored."""

import contextlib
import re

from probes import Probe

MEANS_NOTHING = {
    # to the kubelet, but to the scheduler or the API server
    "serviceAccountName", "automountServiceAccountToken", "topologySpreadConstraints",
}
UNITS = {"": 1, "m": 1e-3, "Mi": 2**20}
# The engine's share of a CPU that nobody else may take, where the kubelet has thousandths.
SHARES = 1024


@contextlib.contextmanager
def read(fields):
    """A copy of some fields to take from; whoever uses it must take them all."""
    rest = dict(fields)
    yield rest
    if rest:
        raise NotImplementedError(f"nothing here knows {sorted(rest)}")


def quantity(text):
    number, unit = re.fullmatch(r"(\d+)(\D*)", str(text)).groups()
    return round(int(number) * UNITS[unit], 3)


class Manifest:
    """The template of a pod with one container."""

    def __init__(self, template):
        self.labels = template["metadata"]["labels"]
        with read(template["spec"]) as spec:
            for field in MEANS_NOTHING:
                spec.pop(field, None)
            assert spec.pop("enableServiceLinks") is False, "nothing here makes them"
            self.grace = spec.pop("terminationGracePeriodSeconds", 30)
            self.volumes = {volume["name"]: volume for volume in spec.pop("volumes", [])}
            context = spec.pop("securityContext", {})
            [container] = spec.pop("containers")
        with read(container) as it:
            self.name, self.image = it.pop("name"), it.pop("image")
            self.args, self.env = it.pop("args", []), it.pop("env", [])
            self.ports = {port["name"]: port["containerPort"] for port in it.pop("ports", [])}
            self.mounts = it.pop("volumeMounts", [])
            self.pre_stop = it.pop("lifecycle", {}).get("preStop", {"sleep": {"seconds": 0}})["sleep"]["seconds"]
            self.probes = {
                kind: Probe(it.pop(f"{kind}Probe"), self.ports)
                for kind in ["startup", "liveness", "readiness"] if f"{kind}Probe" in it
            }
            self.flags = confinement(context | it.pop("securityContext", {})) + bounds(it.pop("resources", {}))

    def command(self, facts, secrets, folder):
        """What to give to `docker run` for a pod of which these facts are true, and that has this folder."""
        env = dict(environment(entry, facts, secrets) for entry in self.env)
        args = [re.sub(r"\$\((\w+)\)", lambda name: env[name[1]], arg) for arg in self.args]
        mounts = [flag for mount in self.mounts for flag in self.mount(mount, secrets, folder)]
        return [*self.flags, *mounts, *(f"--env={name}={value}" for name, value in env.items())], args

    def mount(self, mount, secrets, folder):
        source = folder / mount["name"]
        with read(mount) as mount, read(self.volumes[mount["name"]]) as volume:
            options = ",readonly" if mount.pop("readOnly", False) else ""
            path = mount.pop("mountPath")
            del mount["name"], volume["name"]
            if "emptyDir" in volume:
                # Who writes more than its sizeLimit is evicted, which is not done here.
                assert volume.pop("emptyDir").keys() <= {"sizeLimit"}
                source.mkdir(exist_ok=True)
                source.chmod(0o777)
            else:
                write_secret(volume.pop("secret"), secrets, source)
        return ["--mount", f"type=bind,source={source},target={path}{options}"]


def write_secret(volume, secrets, folder):
    folder.mkdir(exist_ok=True)
    with read(volume) as volume:
        for name, content in secrets[volume.pop("secretName")].items():
            (folder / name).write_bytes(content)


def environment(entry, facts, secrets):
    """The name of a variable and its value."""
    if "value" in entry:
        return entry["name"], entry["value"]
    [(kind, source)] = entry["valueFrom"].items()
    if kind == "secretKeyRef":
        return entry["name"], secrets[source["name"]][source["key"]].decode()
    assert kind == "fieldRef", kind
    return entry["name"], field(source["fieldPath"], facts)


def field(path, facts):
    label = re.fullmatch(r"metadata\.labels\['(.*)'\]", path)
    return facts["metadata.labels"].get(label[1], "") if label else facts[path]


def confinement(context):
    with read(context) as it:
        user, group = it.pop("runAsUser"), it.pop("runAsGroup")
        assert it.pop("runAsNonRoot") and user > 0
        # The engine's own, too.
        assert it.pop("seccompProfile") == {"type": "RuntimeDefault"}
        flags = [f"--user={user}:{group}", *(f"--cap-drop={name}" for name in it.pop("capabilities")["drop"])]
        if it.pop("readOnlyRootFilesystem"):
            flags.append("--read-only")
        if not it.pop("allowPrivilegeEscalation"):
            flags.append("--security-opt=no-new-privileges")
    return flags


def bounds(resources):
    with read(resources) as it:
        with read(it.pop("limits")) as limits, read(it.pop("requests")) as requests:
            # The memory that is asked for is the scheduler's affair.
            requests.pop("memory")
            shares, memory = SHARES * quantity(requests.pop("cpu")), quantity(limits.pop("memory"))
    return [f"--cpu-shares={shares:.0f}", f"--memory={memory}"]
