"""The images of docker/Dockerfile and the topology of docker/compose.yaml, with a real engine."""

import gzip
import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import tomllib
import zlib
from collections import Counter

import grpc
import pytest

from conftest import DATABASE, PATIENCE, ROOT, TRANSCRIPT
from engine import BUILD_PATIENCE, build, build_as, eventually, inspect, output, run

SERVERS = {"route-guide": 3, "greeter": 2}
CLIENTS = ["route-guide-client", "greeter-client"]
IMAGES = [*SERVERS, *CLIENTS]
# What a manifest will say of a container.
CONFINED = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
CONFINED += ["--user", "65532", "--memory", "64m"]
MEGABYTE = 1_000_000
ARCHITECTURE = "arm64" if os.uname().machine == "aarch64" else "amd64"


def compose(*arguments, **options):
    project = ["--project-name", "grpc-suite-tests", "--file", "docker/compose.yaml"]
    return output("docker", "compose", *project, *arguments, **options)


def healthy(container):
    return inspect(container, ".State.Health.Status") == "healthy"


@pytest.fixture(scope="session")
def images():
    """Builds all images, under their own names and as push-ecr.sh would."""
    for name in IMAGES:
        build_as(name, name)


@pytest.fixture
def container(images):
    """Starts containers, and removes them after the test."""
    started = []

    def start(image, *flags):
        started.append(output("docker", "run", "--detach", *flags, image))
        return started[-1]

    yield start
    if started:
        output("docker", "rm", "--force", *started)


def export(image):
    """The regular files of an image, by path."""
    container = output("docker", "create", image)
    try:
        exported = run("docker", "export", container)
    finally:
        output("docker", "rm", container)
    with tarfile.open(fileobj=io.BytesIO(exported.stdout)) as archive:
        return {file.name: archive.extractfile(file).read() for file in archive if file.isfile()}


@pytest.fixture(scope="session")
def files(images):
    """The files of each image."""
    return {name: export(name) for name in IMAGES}


# The images


def test_hadolint_finds_nothing():
    assert output("hadolint", "docker/Dockerfile") == ""


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_small(name, images, capsys):
    packed = len(gzip.compress(run("docker", "save", f"{name}:latest").stdout))
    size = int(inspect(name, ".Size"))
    with capsys.disabled():
        print(f"\n{name}: {packed / MEGABYTE:.1f} MB compressed, {size / MEGABYTE:.1f} MB uncompressed")
    assert packed <= 8 * MEGABYTE and size <= 12 * MEGABYTE


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_nothing_but_a_static_binary_and_what_it_needs(name, files, tmp_path):
    # The engine mounts its own over these, and one is its mark.
    mounts = {".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"}
    shared = {"etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"}
    assert set(files[name]) - mounts == shared | {name, f"{name}.cdx.json"}
    (tmp_path / name).write_bytes(files[name][name])
    headers = output("readelf", "--wide", "--program-headers", "--dynamic", tmp_path / name)
    assert "INTERP" not in headers and "NEEDED" not in headers


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_no_shell_and_its_user_is_not_root(name, images):
    assert run("docker", "run", "--rm", "--entrypoint", "sh", name).returncode == 127
    config = json.loads(inspect(name, "json .Config"))
    assert (config["User"], config["StopSignal"]) == ("65532:65532", "SIGTERM")
    assert config["Labels"]["org.opencontainers.image.title"] == name


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_is_healthy_with_every_right_taken_from_it(name, container):
    server = container(name, *CONFINED, "--network", "none", "--health-interval", "1s")
    eventually(lambda: healthy(server))
    began = time.monotonic()
    output("docker", "stop", "--time", "35", server, timeout=2 * PATIENCE)
    assert inspect(server, ".State.ExitCode") == "0" and time.monotonic() - began < 35


ROOTS = "/etc/ssl/certs/ca-certificates.crt"
MISTAKES = [
    (["TLS_CERT=/tls.crt", "TLS_KEY=/tls.key"], "TLS_CERT=/tls.crt: No such file or directory"),
    ([f"TLS_CERT={ROOTS}", "TLS_KEY=/etc/passwd"], "TLS_KEY=/etc/passwd: no private key in this file"),
    (["FEATURES_FILE=/etc/passwd"], "FEATURES_FILE=/etc/passwd: expected"),
    (["DRAIN_TIMEOUT=soon"], "invalid value 'soon' for '--drain-timeout"),
]


def ended_with_a_line(container, reason):
    code = int(output("docker", "wait", container))
    logs = run("docker", "logs", container, text=True)
    [line] = (logs.stdout + logs.stderr).splitlines()
    assert code in (1, 2) and reason in line, (code, line)


@pytest.mark.parametrize("settings, reason", MISTAKES)
def test_a_mistake_ends_the_start_with_one_line(settings, reason, container):
    flags = [flag for setting in settings for flag in ("--env", setting)]
    ended_with_a_line(container("route-guide", *CONFINED, *flags), reason)


def test_a_port_that_is_taken_ends_the_start_with_one_line(container):
    first = container("route-guide", *CONFINED, "--health-interval", "1s")
    eventually(lambda: healthy(first))
    second = container("route-guide", *CONFINED, "--network", f"container:{first}")
    ended_with_a_line(second, "LISTEN_ADDR=:50051: Address already in use")


# What the images are made of


def linked(name):
    """The name and version of every crate that is linked into a binary."""
    tree = output(
        "cargo", "tree", "--locked", "--package", name, "--edges", "normal,no-proc-macro",
        "--target", "x86_64-unknown-linux-gnu", "--prefix", "none", "--format", "{p}",
    )
    return {tuple(line.split()[:2]) for line in tree.splitlines()}


def listed(packages):
    return {(package["name"], "v" + package["version"]) for package in packages}


@pytest.mark.parametrize("name", IMAGES)
def test_the_sbom_lists_every_crate_that_is_linked_and_none_that_the_lock_file_lacks(name, files):
    bom = json.loads(files[name][f"{name}.cdx.json"])
    found = listed([bom["metadata"]["component"], *bom["components"]])
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    assert bom["bomFormat"] == "CycloneDX"
    assert linked(name) <= found <= listed(lock)


@pytest.mark.parametrize("name", IMAGES)
def test_the_binary_itself_lists_every_crate_that_is_linked(name, files, tmp_path):
    (tmp_path / name).write_bytes(files[name][name])
    dump = ["objcopy", "--dump-section", f".dep-v0={tmp_path}/list", tmp_path / name, "/dev/null"]
    output(*dump)
    packages = json.loads(zlib.decompress((tmp_path / "list").read_bytes()))["packages"]
    assert linked(name) <= listed(packages)


# It compiles everything again.
if os.environ.get("LONG"):

    def test_the_same_sources_give_the_same_binaries_at_another_time(files):
        # Another time of the commit has the sources compiled once more.
        again = {name: build(name, "--build-arg", "SOURCE_DATE_EPOCH=1") for name in IMAGES}
        digest = lambda content: hashlib.sha256(content).hexdigest()
        for name, image in again.items():
            assert digest(export(image)[name]) == digest(files[name][name])


@pytest.fixture
def registry(tmp_path):
    """The address of a registry that holds nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.json").write_text(json.dumps(config))
    command = ["docker-registry", "serve", tmp_path / "registry.json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: run("curl", "--silent", "--fail", f"http://{address}/v2/").returncode == 0)
        yield address
        process.terminate()


def default_builder():
    return re.search("^ARG BUILDER=(.*)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)[1]


def test_all_of_a_release_is_built_with_the_image_that_the_tag_of_its_builder_names_now(images, registry, tmp_path):
    # Any image will do, for nothing is built: the engine is asked for digests only.
    builder = f"{registry}/builder:1"
    output("docker", "tag", "greeter", builder)
    output("docker", "push", "--quiet", builder)
    pinned = f"{builder}@{inspect(builder, 'index .RepoDigests 0').partition('@')[2]}"
    engine = tmp_path / "docker"
    engine.write_text(f"""#!/bin/sh
        echo "$@" >>{tmp_path}/commands
        case $1 in image | buildx) exec {shutil.which("docker")} "$@" ;; esac
    """)
    engine.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BUILDER": builder}
    output("docker/push-ecr.sh", "example.com/suite", "greeter", env=environment)
    commands = (tmp_path / "commands").read_text().splitlines()
    builds = [command.split() for command in commands if command.startswith("build ")]
    assert len(builds) == 2
    assert all({f"BUILDER={pinned}", f"grpc-suite.builder={pinned}"} <= set(build) for build in builds)


def test_images_are_pushed_and_pulled_back_by_digest(images, registry):
    environment = os.environ | {"ARCHITECTURES": ARCHITECTURE, "VERSION": "1.2.3", "SOURCE": "https://example.com"}
    printed = output(
        "docker/push-ecr.sh", f"{registry}/suite", env=environment, timeout=BUILD_PATIENCE
    ).splitlines()
    assert [name.partition("@")[0] for name in printed] == [f"{registry}/suite/{name}" for name in IMAGES]
    for name, pushed in zip(IMAGES, printed):
        output("docker", "pull", pushed)
        labels = json.loads(inspect(pushed, "json .Config.Labels"))
        named = {key.rpartition(".")[2]: value for key, value in labels.items()}
        assert (named["title"], named["version"], named["source"]) == (name, "1.2.3", "https://example.com")
        assert named["revision"].startswith(output("git", "rev-parse", "HEAD"))
        builder = re.escape(os.environ.get("BUILDER", default_builder()))
        assert re.fullmatch(builder + "@sha256:[0-9a-f]{64}", labels["grpc-suite.builder"])
        assert output("docker", "run", "--rm", *CONFINED, pushed, "--version").startswith(name)


# The topology

ENTRY = "localhost:8443"


@pytest.fixture(scope="session")
def topology(images, tmp_path_factory):
    """Everything up and healthy; the path of its authority's certificate."""
    compose("down", "--volumes", timeout=4 * PATIENCE)
    try:
        compose("up", "--wait", timeout=4 * PATIENCE)
        authority = tmp_path_factory.mktemp("topology") / "ca.crt"
        compose("cp", "balancer:/etc/tls/ca.crt", authority)
        yield authority
    finally:
        compose("down", "--volumes", timeout=4 * PATIENCE)


def replicas(name):
    return compose("ps", "--all", "--quiet", name).split()


def connect(authority):
    """A channel to the balancer on a connection of its own, which tries nothing twice."""
    trusted = grpc.ssl_channel_credentials(authority.read_bytes())
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(ENTRY, trusted, options)


def served_by(call):
    return dict(call.initial_metadata())["x-served-by"]


def test_everything_comes_up_healthy(topology):
    states = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    count = Counter(state["Service"] for state in states if state["Health"] == "healthy")
    assert count == SERVERS | {"notes": 1, "balancer": 1}


def test_the_client_takes_the_tour_through_tls(topology):
    toured = compose("run", "--rm", "client", "tour", "--output", "json").splitlines()
    found = [json.loads(line) for line in toured]
    features = TRANSCRIPT["list_features"]["count"]
    assert found[0]["name"] == TRANSCRIPT["get_feature"][0]["name"]
    assert len(found) == 2 + features + 1 + 2, toured


def test_a_greeting_comes_through_tls(topology):
    assert compose("run", "--rm", "greeter-client", "hello").startswith("Hello")


def test_calls_spread_over_the_replicas_at_l7_and_stay_with_one_at_l4(topology, capsys):
    table = output(sys.executable, "docker/spread.py", topology)
    with capsys.disabled():
        print(f"\n{table}")
    l7, l4 = ([int(cell) for cell in row.split("|")[2:-1]] for row in table.splitlines()[2:])
    assert len(l7) == 3 and all(90 <= calls <= 110 for calls in l7)
    assert sorted(l4) == [0, 0, 300]


def chat(stub, messages, *notes):
    """What came back for these notes, and who sent it."""
    call = stub.RouteChat(iter(notes), timeout=PATIENCE)
    return list(call), served_by(call)


def test_a_note_left_through_one_replica_is_read_through_another(topology, stubs):
    messages, services = stubs["guide"]
    place = messages.Point(latitude=1, longitude=random.randrange(1_000_000))
    note = lambda text: messages.RouteNote(location=place, message=text)
    with connect(topology) as channel:
        stub = services.RouteGuideStub(channel)
        _, first = chat(stub, messages, note("0"))
        readers = set()
        for number in range(1, 10):
            notes, reader = chat(stub, messages, note(str(number)))
            assert [note.message for note in notes] == [str(earlier) for earlier in range(number)]
            readers.add(reader)
        assert readers - {first}


class Load:
    """Callers of every kind of method, which look at what they get and call again without a pause."""

    CALLERS = 4

    def __init__(self, authority, stubs):
        self.authority, self.stubs = authority, stubs
        self.good, self.bad, self.over = Counter(), [], threading.Event()
        self.latitude = -random.randrange(1, 800_000_000)  # where nobody else leaves notes

    def __enter__(self):
        self.threads = [threading.Thread(target=self.work, args=[n]) for n in range(self.CALLERS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def work(self, caller):
        with connect(self.authority) as channel:
            for number in itertools.count():
                if self.over.is_set():
                    return
                for kind in [self.greeting, self.feature, self.features, self.route, self.notes]:
                    try:
                        kind(channel, caller, number)
                        self.good[kind.__name__] += 1
                    except (AssertionError, grpc.RpcError) as problem:
                        self.bad.append((kind.__name__, problem))

    def greeting(self, channel, caller, number):
        messages, services = self.stubs["hello"]
        replies = services.GreeterStub(channel).SayHelloStreamReply(
            messages.HelloRequest(name=str(number)), timeout=PATIENCE
        )
        assert [reply.message.split()[1] for reply in replies] == [str(number)] * 5

    def feature(self, channel, caller, number):
        messages, services = self.stubs["guide"]
        due = DATABASE[number % len(DATABASE)]
        point = messages.Point(**due["location"])
        assert services.RouteGuideStub(channel).GetFeature(point, timeout=PATIENCE).name == due["name"]

    def features(self, channel, caller, number):
        messages, services = self.stubs["guide"]
        corners = TRANSCRIPT["list_features"]["rectangle"]
        area = messages.Rectangle(**{name: messages.Point(**corner) for name, corner in corners.items()})
        found = services.RouteGuideStub(channel).ListFeatures(area, timeout=PATIENCE)
        assert len(list(found)) == TRANSCRIPT["list_features"]["count"]

    def route(self, channel, caller, number):
        messages, services = self.stubs["guide"]
        points = (messages.Point(**entry["location"]) for entry in DATABASE)
        summary = services.RouteGuideStub(channel).RecordRoute(points, timeout=PATIENCE)
        assert summary.point_count == len(DATABASE)

    def notes(self, channel, caller, number):
        messages, services = self.stubs["guide"]
        place = messages.Point(latitude=self.latitude - caller, longitude=number)
        notes = [messages.RouteNote(location=place, message=text) for text in "ab"]
        replies, _ = chat(services.RouteGuideStub(channel), messages, *notes)
        assert [note.message for note in replies] == ["a"]


def in_rotation(authority):
    """Which RouteGuides the balancer knows, by what they say of themselves."""
    with connect(authority) as channel:
        call = channel.unary_unary("/routeguide.RouteGuide/GetFeature")
        return {served_by(call.with_call(b"", timeout=PATIENCE)[1]) for _ in range(9)}


def short(containers):
    """What RouteGuides in these containers say of themselves: the host name, which is their short id, and the port."""
    return {f"{container[:12]}:50051" for container in containers}


def test_replicas_restarted_in_turn_under_load_cost_no_call(topology, stubs, capsys):
    with Load(topology, stubs) as load:
        for name in SERVERS:
            for replica in replicas(name):
                output("docker", "restart", replica, timeout=3 * PATIENCE)
                eventually(lambda: healthy(replica))
        eventually(lambda: in_rotation(topology) == short(replicas("route-guide")))
    with capsys.disabled():
        print(f"\n{sum(load.good.values())} calls while 5 replicas were restarted, {len(load.bad)} lost")
    assert not load.bad and min(load.good.values()) > 100, load.bad


def test_a_replica_that_is_stopped_ends_well_and_in_time(topology, stubs):
    replica, *others = replicas("route-guide")
    with Load(topology, stubs) as load:
        began = time.monotonic()
        output("docker", "stop", replica, timeout=2 * PATIENCE)
        took = time.monotonic() - began
        assert inspect(replica, ".State.ExitCode") == "0" and took < 35
        assert in_rotation(topology) == short(others)
        output("docker", "start", replica)
        eventually(lambda: in_rotation(topology) == short([replica, *others]))
    assert not load.bad, load.bad


def test_a_replica_that_is_killed_leaves_rotation_and_comes_back(topology):
    replica, *others = replicas("route-guide")
    output("docker", "kill", "--signal", "KILL", replica)
    eventually(lambda: in_rotation(topology) == short(others))
    output("docker", "start", replica)
    eventually(lambda: in_rotation(topology) == short([replica, *others]))


def test_a_replica_that_crashes_is_started_again(topology):
    replica = replicas("route-guide")[0]
    os.kill(int(inspect(replica, ".State.Pid")), signal.SIGKILL)
    eventually(lambda: inspect(replica, ".RestartCount") == "1" and healthy(replica))
    eventually(lambda: short([replica]) <= in_rotation(topology))
