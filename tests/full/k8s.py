"""The manifests of k8s/ at work, without a cluster: pods as the kubelet runs, probes and ends them, replaced as
a Deployment does it, under load through a Service and through a balancer of calls."""

import copy
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import grpc
import pytest
import trustme

from cluster import Cluster, Deployment
from conftest import BINARIES, PATIENCE, ROOT
from engine import build_as, eventually, inspect, output, run
from kustomize import document, with_value
from paths import LAG, PORT, balancer, loopback, service
from pods import Manifest

SERVICES = {"route-guide": PORT, "greeter": 9000}
CALLS = 20_000
GOAWAY = 7
TLS = {"tls.crt": "server.pem", "tls.key": "server.key", "ca.crt": "ca.pem"}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, certificates):
    for name in SERVICES:
        [container] = document("local", "Deployment", name)["spec"]["template"]["spec"]["containers"]
        build_as(container["image"], name)
    images = {"valkey/valkey:8": os.environ.get("REDIS_IMAGE", "valkey/valkey:8")}
    secrets = {
        "notes": {"password": b"a password"},
        "route-guide-tls": {name: (certificates / file).read_bytes() for name, file in TLS.items()},
    }
    cluster = Cluster(tmp_path_factory.mktemp("pods"), images, secrets)
    yield cluster
    cluster.close()


@pytest.fixture
def deploy(cluster):
    """Starts the pods of a Deployment, waits until they are available, and ends them after the test."""
    started = []

    def start(name, replicas=1, variant="local", wait=True, **env):
        deployment = Deployment(cluster, document(variant, "Deployment", name))
        started.append(deployment)
        deployment.template = with_env(deployment.template, **env)
        deployment.replicas = replicas
        deployment.settle() if wait else deployment.reconcile()
        return deployment

    yield start
    for deployment in started:
        deployment.delete(grace=0)


def with_env(template, **env):
    """A new revision of a template, with these variables."""
    template = copy.deepcopy(template)
    template["spec"]["containers"][0]["env"] += [{"name": name, "value": env[name]} for name in env]
    return template


def connect(address, port=PORT):
    """A channel on a connection of its own."""
    return grpc.insecure_channel(f"{address}:{port}", [("grpc.use_local_subchannel_pool", 1)])


def served_by(call):
    return dict(call.initial_metadata())["x-served-by"]


def answerer(address, stubs):
    """Who answers at this address."""
    messages, services = stubs["guide"]
    with connect(address) as channel:
        call = services.RouteGuideStub(channel).GetFeature.with_call
        return served_by(call(messages.Point(), timeout=PATIENCE)[1])


# Pods


def process(pod):
    """What the kernel says of a pod's process."""
    proc = pathlib.Path("/proc") / inspect(pod.container.id, ".State.Pid")
    status = dict(line.split(":\t") for line in (proc / "status").read_text().splitlines())
    mounts = [line.split() for line in (proc / "mounts").read_text().splitlines()]
    return status, {path: options.split(",") for _, path, _, options, *_ in mounts}


@pytest.mark.parametrize("name", SERVICES)
def test_a_pod_becomes_available_with_every_right_taken_from_it(name, deploy):
    [pod] = deploy(name).pods
    status, mounts = process(pod)
    assert set(status["Uid"].split() + status["Gid"].split()) == {"65532"}
    assert {int(status[f"Cap{kind}"], 16) for kind in ["Inh", "Prm", "Eff", "Bnd"]} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "ro" in mounts["/"]
    assert pod.exits == []


def test_a_pod_says_its_address(deploy, stubs):
    [pod] = deploy("route-guide").pods
    assert answerer(pod.address, stubs) == pod.address


CONTAINER = ("spec", "containers", 0)
UNKNOWN = {
    "a field of a container": ((*CONTAINER, "imagePullPolicy",), "Always"),
    "another hook": ((*CONTAINER, "lifecycle", "postStart"), {}),
    "what is no variable of the pod": ((*CONTAINER, "env", 0, "valueFrom"), {"configMapKeyRef": {}}),
    "another handler": ((*CONTAINER, "livenessProbe", "ask"), {}),
    "a field of a handler": ((*CONTAINER, "livenessProbe", "grpc", "host"), "elsewhere"),
    "a field of a probe": ((*CONTAINER, "livenessProbe", "terminationGracePeriodSeconds"), 1),
    "a capability": ((*CONTAINER, "securityContext", "capabilities", "add"), ["SYS_TIME"]),
    "a limit": ((*CONTAINER, "resources", "limits", "cpu"), "1"),
    "another volume": (("spec", "volumes", 0), {"name": "notes", "configMap": {}}),
}


@pytest.mark.parametrize("path, value", UNKNOWN.values(), ids=UNKNOWN)
def test_what_nothing_here_does_is_refused(path, value, tmp_path):
    template = document("local", "Deployment", "route-guide")["spec"]["template"]
    template = with_value(template, path, value)
    with pytest.raises((NotImplementedError, TypeError)):
        Manifest(template).command({}, {}, tmp_path)


# Probes


def test_a_pod_without_its_store_lives_and_is_ready_unless_it_requires_it(deploy):
    store = deploy("notes")
    [easy], [strict] = deploy("route-guide").pods, deploy("route-guide", NOTES_REQUIRED="true").pods
    store.delete(grace=0)
    eventually(lambda: not strict.ready)
    for pod in (easy, strict):
        lives = pod.container.answers["liveness"]
        known = len(lives)
        # The first of them may have been asked before.
        eventually(lambda: len(lives) >= known + 2)
        assert all(lives)
    assert easy.ready and not strict.ready
    store.settle()
    eventually(lambda: strict.ready)
    assert [what for _, what in easy.events] == ["ready"]
    assert [what for _, what in strict.events] == ["ready", "unready", "ready"]


def time_of_goaway(peer):
    """When this connection is asked to go, in HTTP/2."""
    settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
    peer.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
    with peer.makefile("rb") as frames:
        while (head := frames.read(9))[3] != GOAWAY:
            frames.read(int.from_bytes(head[:3], "big"))
    return time.monotonic()


def test_a_pod_that_drains_is_unready_before_it_asks_connections_to_go(deploy):
    [pod] = deploy("route-guide").pods
    with socket.create_connection((pod.address, PORT), PATIENCE) as peer:
        began = time.monotonic()
        output("docker", "kill", "--signal", "TERM", pod.container.id)
        gone = time_of_goaway(peer)
    unready = pod.when("unready")
    assert unready, "it is ready still"
    assert unready - began < pod.manifest.probes["readiness"].period + 1
    assert unready < gone
    eventually(lambda: pod.exits == [0] and pod.ready)


def test_a_pod_that_hangs_is_unready_at_once_and_then_started_again(deploy):
    [pod] = deploy("route-guide").pods
    # What hangs uses all of its grace; how long that is does not matter here.
    pod.grace = 1
    began = time.monotonic()
    output("docker", "kill", "--signal", "STOP", pod.container.id)
    eventually(lambda: pod.exits == [137] and pod.ready, patience=60)
    assert pod.when("unready") - began < 3 + 2 + 1
    assert pod.when("liveness failed") - began < 3 * 10 + 5 + 1


def test_a_pod_with_tls_asks_itself_whether_it_is_ready(deploy):
    deploy("route-guide", variant="local+tls")


def test_a_pod_whose_certificate_it_does_not_trust_is_not_ready(deploy, cluster, monkeypatch):
    secret = cluster.secrets["route-guide-tls"]
    another = trustme.CA().cert_pem.bytes()
    monkeypatch.setitem(cluster.secrets, "route-guide-tls", secret | {"ca.crt": another})
    [pod] = deploy("route-guide", variant="local+tls", wait=False).pods
    eventually(lambda: len(pod.container.answers["readiness"]) >= 3)
    assert pod.container.started.is_set() and pod.events == []


# Memory


def test_a_pod_lives_and_is_ready_under_every_attack_on_its_memory(deploy, capsys):
    [pod] = deploy("greeter", wait=False).pods
    eventually(lambda: pod.ready)
    answers, container = pod.container.answers, pod.container.id
    limit, with_swap = (int(inspect(container, f".HostConfig.{what}")) for what in ("Memory", "MemorySwap"))
    before = len(answers["readiness"])
    attack = [BINARIES / "lab", "measure", "--alone", "--at", f"{pod.address}:{SERVICES['greeter']}", "memory"]
    found = run(*attack, text=True, timeout=4 * PATIENCE)
    assert found.returncode == 0 and pod.exits == [], (found.stdout, pod.events)
    after = len(answers["readiness"])
    assert after - before >= 2
    eventually(lambda: len(answers["readiness"]) > after)
    assert all(answers["readiness"]) and all(answers["liveness"])
    peak = int(process(pod)[0]["VmHWM"].split()[0]) * 1024
    with capsys.disabled():
        print(f"\n{peak / 2**20:.0f} MiB at most, of {limit / 2**20:.0f}")
    assert peak < limit == with_swap and inspect(container, ".State.OOMKilled") == "false"


# Rollouts

# Where whatever calls has its CPU from, too, a store that is well may take its time.
ONE_MACHINE = {"NOTES_TIMEOUT": "2s"}


class Load:
    """Calls of all four kinds, in a process of their own."""

    def __init__(self, addresses, calls):
        targets = ",".join(f"{address}:{PORT}" for address in addresses)
        command = [sys.executable, ROOT / "tests/lab/rollout/load.py", targets, str(calls), "--balanced"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def outcome(self):
        """What became of the calls, once there are enough of them."""
        found = json.loads(self.process.communicate(timeout=10 * PATIENCE)[0])
        wrong = sum(found.get(fault, 0) for fault in ["wrong", "truncated", "duplicated"])
        return found["calls"], wrong + sum(found["failures"].values()), found["failures"]


def roll_out(deployment, folder, calls):
    """Replaces all pods; what became of the calls through a Service and through a balancer of calls."""
    addresses, front = [loopback() for _ in range(4)], loopback()
    endpoints = lambda: deployment.endpoints(LAG)
    with service(endpoints, addresses), balancer(endpoints, front, folder):
        loads = {"Service": Load(addresses, calls), "balancer": Load([front], calls)}
        before = list(deployment.pods)
        deployment.settle(template=with_env(deployment.template))
        for pod in before:
            pod.life.join()
        return {name: load.outcome() for name, load in loads.items()}


def test_a_rollout_costs_no_call(deploy, tmp_path, capsys):
    deploy("notes")
    replicas = document("local", "HorizontalPodAutoscaler", "route-guide")["spec"]["minReplicas"]
    deployment = deploy("route-guide", replicas, **ONE_MACHINE)
    began = time.monotonic()
    found = roll_out(deployment, tmp_path, CALLS)
    with capsys.disabled():
        for path, (calls, lost, _) in found.items():
            print(f"\n{path}: {calls} calls in {time.monotonic() - began:.0f} s, {lost} lost")
    assert all(calls >= CALLS and lost == 0 for calls, lost, _ in found.values()), found
    assert [pod.exits for pod in deployment.pods if pod.deleted] == [[0]] * replicas


def test_without_the_waits_before_the_end_a_rollout_costs_calls(deploy, tmp_path):
    deploy("notes")
    deployment = deploy("route-guide", 3, LAME_DUCK="0s", **ONE_MACHINE)
    del deployment.template["spec"]["containers"][0]["lifecycle"]
    found = roll_out(deployment, tmp_path, calls=0)
    assert any(lost for _, lost, _ in found.values())


# More pods


class Callers:
    """Connections to one address, each with a call now and then; who answered them, and when."""

    CONNECTIONS, PAUSE = 40, 0.05

    def __init__(self, address, stubs):
        self.address, self.stubs = address, stubs
        self.answers, self.over = [], threading.Event()
        self.connected = threading.Barrier(self.CONNECTIONS + 1, timeout=PATIENCE)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.work) for _ in range(self.CONNECTIONS)]
        for thread in self.threads:
            thread.start()
        self.connected.wait()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def work(self):
        messages, services = self.stubs["guide"]
        with connect(self.address) as channel:
            call = services.RouteGuideStub(channel).GetFeature.with_call
            call(messages.Point(), timeout=PATIENCE)
            self.connected.wait()
            while not self.over.wait(self.PAUSE):
                answer = served_by(call(messages.Point(), timeout=PATIENCE)[1])
                self.answers.append((time.monotonic(), answer))

    def shares(self):
        """How many of the last second's calls each pod answered."""
        since = time.monotonic() - 1
        return Counter(pod for at, pod in self.answers[-self.CONNECTIONS * 20 :] if at > since)


@pytest.mark.parametrize("age, known", [("2s", True), ("10m", False)])
def test_new_pods_get_calls_if_connections_grow_old(age, known, deploy, stubs):
    deployment = deploy("route-guide", 2, MAX_CONNECTION_AGE=age)
    address = loopback()
    with service(deployment.endpoints, [address]), Callers(address, stubs) as callers:
        deployment.settle(replicas=4)
        new = [pod.address for pod in deployment.pods[2:]]
        # Half of a fair share, at least: each connection goes to any of the four.
        shared = lambda: all(callers.shares()[pod] >= callers.shares().total() / 8 for pod in new)
        if known:
            eventually(shared, patience=10)
        else:
            assert not any(callers.shares()[pod] for pod in new)
