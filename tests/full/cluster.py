"""As much of a cluster as pods need that are replaced under load: addresses, a Deployment's rules, and who is
an endpoint."""

import json
import math
import time

from engine import eventually, output, run
from kubelet import Pod
from kustomize import read

ROLLOUT_PATIENCE = 180


class Cluster:
    """A namespace on one node; what its pods refer to is given in advance."""

    def __init__(self, folder, images, secrets):
        self.folder, self.images, self.secrets = folder, images, secrets
        self.network, self.namespace = "grpc-suite-tests-pods", "grpc-suite"
        self.close()
        # The engine finds a subnet that is free, but gives out addresses only in one that was asked for.
        output("docker", "network", "create", self.network)
        [found] = json.loads(output("docker", "network", "inspect", self.network))[0]["IPAM"]["Config"]
        output("docker", "network", "rm", self.network)
        output("docker", "network", "create", "--subnet", found["Subnet"], self.network)
        prefix = found["Subnet"].rpartition(".")[0]
        self.places = ((number, f"{prefix}.{number}") for number in range(10, 250))

    def place(self, name):
        """A pod's own name, and its address."""
        number, address = next(self.places)
        return f"{name}-{number}", address

    def close(self):
        pods = run("docker", "ps", "--all", "--quiet", "--filter", f"network={self.network}", text=True)
        if pods.stdout:
            output("docker", "rm", "--force", *pods.stdout.split())
        run("docker", "network", "rm", self.network)


class Deployment:
    """Pods of a template, which a change replaces by the rules of the manifest."""

    def __init__(self, cluster, manifest):
        self.cluster, self.name, self.pods = cluster, manifest["metadata"]["name"], []
        assert manifest["metadata"]["namespace"] == cluster.namespace
        with read(manifest["spec"]) as spec:
            self.template, self.settled = spec.pop("template"), spec.pop("minReadySeconds", 0)
            assert spec.pop("selector")["matchLabels"].items() <= self.template["metadata"]["labels"].items()
            self.replicas = spec.pop("replicas", None)
            # There is none for Recreate, and then nothing here replaces pods.
            self.rolling = spec.pop("strategy").get("rollingUpdate")

    def settle(self, **wanted):
        """Returns when there are as many pods of this template as are wanted, and no others."""
        vars(self).update(wanted)
        eventually(self.reconcile, ROLLOUT_PATIENCE)

    def reconcile(self):
        """Takes the steps that may be taken now, and says whether all is as it should be."""
        present = [pod for pod in self.pods if not pod.deleted]
        new = [pod for pod in present if pod.template is self.template]
        old = [pod for pod in present if pod.template is not self.template]
        surge = self.rolling["maxSurge"] if old else 0
        for _ in range(min(self.replicas - len(new), self.replicas + surge - len(present))):
            self.pods.append(Pod(self.name, self.template, self.cluster))
        spare = sum(map(self.is_available, present)) - self.replicas
        if old:
            spare += self.rolling["maxUnavailable"]
        for pod in [*old, *new][: max(0, spare)]:
            pod.delete()
        return not old and len(new) == self.replicas and all(map(self.is_available, new))

    def is_available(self, pod):
        return pod.ready and time.monotonic() - pod.when("ready") >= self.settled

    def endpoints(self, lag=0):
        """Where pods take calls, to somebody who hears so many seconds late that one does not any more."""
        return [pod.address for pod in self.pods if self.left(pod) > time.monotonic() - lag]

    def left(self, pod):
        """When a pod ceased to be an endpoint."""
        if pod.ready and not pod.deleted:
            return math.inf
        since = pod.when("ready")
        ends = (at for at, what in pod.events if what in ("unready", "deleted") and since and at > since)
        return min(ends, default=-math.inf)

    def delete(self, grace=None):
        for pod in self.pods:
            pod.delete(grace)
        for pod in self.pods:
            pod.life.join()
