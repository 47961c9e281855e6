"""The servers behind balancers that we did not write, with the files of docker/: what the public clients
see, who gets the calls, and what becomes of silence, of a server that leaves and of one that has gone."""

import math
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from queue import SimpleQueue
from typing import NamedTuple

import grpc
import pytest
import trustme

from conftest import BINARIES, DATABASE, PATIENCE, ROOT

CANONICAL = ROOT / "tests/full/canonical"
PORTS = {"route-guide": ("50051", "50052"), "greeter": ("9000", "9001")}
REPLICAS = 3
CALLERS = 4


class Balancer(NamedTuple):
    """A balancer, most often with a file of docker/."""

    config: str | None
    command: list  # with {folder} for the folder of this file and its certificate
    check: list  # has the command only check the file
    asks: bool  # asks the servers for their health
    cut: grpc.StatusCode  # what a chat ends with that is silent for too long


BALANCERS = {
    "envoy": Balancer(
        "envoy.yaml",
        ["envoy", "--use-dynamic-base-id", "--log-level", "error", "-c", "{folder}/envoy.yaml"],
        ["--mode", "validate"],
        asks=True,
        cut=grpc.StatusCode.INTERNAL,
    ),
    "haproxy": Balancer(
        "haproxy.cfg",
        ["haproxy", "-dW", "-db", "-f", "{folder}/haproxy.cfg"],
        ["-c"],
        asks=True,
        cut=grpc.StatusCode.CANCELLED,
    ),
    "nginx": Balancer(
        "nginx.conf",
        # Debian has `stream` as a module, the public image has it built in.
        ["nginx", "-c", "{folder}/nginx.conf", "-g", "daemon off; pid {folder}/nginx.pid; "
         "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"],
        ["-t"],
        asks=False,
        cut=grpc.StatusCode.INTERNAL,
    ),
}


# The double of an ALB, which has no file; its targets follow.
ALB = Balancer(
    None,
    [BINARIES / "alb", "--listen", "{address}:8443", "--idle-timeout", "{idle}"]
    + ["--cert", "{folder}/tls.crt", "--key", "{folder}/tls.key"]
    + ["--rule", "/routeguide.RouteGuide/*=route-guide", "--rule", "/helloworld.Greeter/*=greeter"]
    + ["--matcher", "0", "--health-interval", "1"],
    [],
    asks=True,
    cut=grpc.StatusCode.INTERNAL,
)


class Path(NamedTuple):
    """A way to the servers: the balancer that stands in it, and its ports for each of them."""

    name: str
    balancer: Balancer | None = None
    ports: dict = {}
    tls: bool = False


# L7 takes TLS and balances calls, L4 balances connections.
L7 = [
    Path(f"{name}-l7", balancer, {"route-guide": 8443, "greeter": 8443}, tls=True)
    for name, balancer in [*BALANCERS.items(), ("alb", ALB)]
]
L4 = [
    Path(f"{name}-l4", balancer, {"route-guide": 8050, "greeter": 8090})
    for name, balancer in BALANCERS.items()
]
PATHS = [Path("direct"), *L7, *L4]


def through(paths):
    """Runs a test once for each path."""
    return pytest.mark.parametrize("path", paths, ids=[path.name for path in paths])


def endpoints(line, replicas):
    """A line that names a server, once for each replica; any other line as it is."""
    for name, (port, admin_port) in PORTS.items():
        endpoint = re.compile(rf"\b{name}(:|, port_value: ){port}\b")
        if not endpoint.search(line):
            continue
        for number, server in enumerate(replicas[name], 1):
            copy = endpoint.sub(rf"127.0.0.1\g<1>{server.port}", line)
            copy = re.sub(r"server-template (\S+) \d+", rf"server \g<1>{number}", copy)
            yield copy.replace(f"port {admin_port}", f"port {server.admin_port}")
        return
    yield line


def listens(address, port):
    with socket.socket() as peer:
        return peer.connect_ex((address, int(port))) == 0


class Suite:
    """Both servers, as replicas if a balancer stands before them, and the way to them."""

    def __init__(self, path, folder, authority, serve, idle="60s", lame_duck="0s", guides=None):
        """With guides, these are the route guides."""
        self.path, self.folder = path, folder
        self.replicas = {
            name: [
                serve(name, "--pod-ip", f"10.0.0.{number}", lame_duck=lame_duck)
                for number in range(REPLICAS if path.balancer else 1)
            ]
            for name in PORTS if not (guides and name == "route-guide")
        }
        if guides:
            self.replicas["route-guide"] = guides
        # One of its own for each balancer, so that the ports can stay as they are.
        self.address = "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))
        issued = authority.issue_cert(self.address)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "tls.crt")
        issued.private_key_pem.write_to_path(folder / "tls.key")
        if path.balancer:
            values = {"folder": folder, "address": self.address, "idle": idle.removesuffix("s")}
            self.command = [str(part).format(**values) for part in path.balancer.command]
            if path.balancer.config:
                self.configure(path.balancer.config, idle)
            else:
                self.register()

    def configure(self, config, idle):
        """Writes a file of docker/ for this machine."""
        lines = (ROOT / "docker" / config).read_text().splitlines()
        text = "\n".join(copy for line in lines for copy in endpoints(line, self.replicas))
        for ours, theirs in [("0.0.0.0", self.address), ("/etc/tls", str(self.folder)), ("60s", idle)]:
            assert ours in text
            text = text.replace(ours, theirs)
        (self.folder / config).write_text(text + "\n")

    def register(self):
        """Names the targets to the double of an ALB."""
        for name, servers in self.replicas.items():
            for server in servers:
                self.command += ["--target", f"{name}=127.0.0.1:{server.port}"]

    def start(self):
        """Starts the balancer, and waits until it listens."""
        self.balancer = subprocess.Popen(self.command)
        for port in self.path.ports.values():
            while not listens(self.address, port):
                assert self.balancer.poll() is None, "it has ended"
                time.sleep(0.01)

    def stop(self):
        self.balancer.terminate()
        self.balancer.wait(PATIENCE)

    def target(self, name):
        """Where clients find a server."""
        if self.path.balancer:
            return f"{self.address}:{self.path.ports[name]}"
        return self.replicas[name][0].addr

    def channel(self, name):
        """A channel to a server, on a connection of its own."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self.path.tls:
            trusted = grpc.ssl_channel_credentials((self.folder / "ca.pem").read_bytes())
            return grpc.secure_channel(self.target(name), trusted, options)
        return grpc.insecure_channel(self.target(name), options)


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def suite(tmp_path, authority, serve):
    """Starts a suite on a path, and stops it after the test."""
    suites = []

    def start(path, **options):
        suite = Suite(path, tmp_path, authority, serve, **options)
        if path.balancer:
            suite.start()
            suites.append(suite)
        return suite

    yield start
    for suite in suites:
        suite.stop()


def served_by(call):
    return dict(call.initial_metadata())["x-served-by"]


# The files


@through([path for path in L7 if path.balancer.config])
def test_the_balancer_takes_its_file_without_a_warning(path, tmp_path, authority, serve):
    command = Suite(path, tmp_path, authority, serve).command
    checked = subprocess.run([*command, *path.balancer.check], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr


# The public clients

FEATURES = [(feature["name"], tuple(feature["location"].values())) for feature in DATABASE]
KNOWN = "Berkshire Valley Management Area Trail, Jefferson, NJ, USA"


def printed_by(command, suite, *trusting):
    """The lines that a public client prints."""
    command = [*command, suite.target("route-guide"), *(trusting if suite.path.tls else [])]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.splitlines()


def route_in(printed):
    """The points that a client visited, and how many seconds the server says it took."""
    visits = [line for line in printed if line.startswith("Visiting")]
    pairs = [re.findall(r"-?[\d.]+", line) for line in visits]
    route = [tuple(round(float(x) * (1e7 if "." in x else 1)) for x in pair) for pair in pairs]
    assert len(route) == 10 and set(route) <= {place for _, place in FEATURES}
    [seconds] = re.findall(r"It took (\d+) seconds", "\n".join(printed))
    return route, seconds


def distance(points):
    """The length of a route in whole metres, as the contract has it."""
    metres = 0
    for (lat1, lon1), (lat2, lon2) in zip(points, points[1:]):
        a, b, turn = (math.radians(e7 / 1e7) for e7 in (lat1, lat2, lon2 - lon1))
        h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(turn / 2) ** 2
        metres += 2 * 6371000 * math.atan2(math.sqrt(h), math.sqrt(1 - h))
    return int(metres)


@through(PATHS)
def test_the_public_client_in_python(path, suite):
    running = suite(path)
    client = [sys.executable, CANONICAL / "client.py"]
    printed = printed_by(client, running, "--cacert", running.folder / "ca.pem")
    route, seconds = route_in(printed)
    heading = "-------------- {} --------------".format
    at = "latitude: {}, longitude: {}".format
    expected = [
        heading("GetFeature"),
        f"Feature called {KNOWN!r} at {at(409146138, -746188906)}",
        f"Found no feature at {at(0, 0)}",
        heading("ListFeatures"),
        "Looking for features between 40, -75 and 42, -73",
        *(f"Feature called {name!r} at {at(*place)}" for name, place in FEATURES),
        heading("RecordRoute"),
        *(f"Visiting point {at(*place)}" for place in route),
        "Finished trip with 10 points ",
        "Passed 10 features ",
        f"Travelled {distance(route)} meters ",
        f"It took {seconds} seconds ",
        heading("RouteChat"),
    ]
    notes = {"First": (0, 0), "Second": (0, 1), "Third": (1, 0), "Fourth": (0, 0), "Fifth": (1, 0)}
    chat = [f"Sending {number} message at {at(*place)}" for number, place in notes.items()]
    chat += [f"Received message {number} message at {at(*notes[number])}" for number in ["First", "Third"]]
    assert printed[: len(expected)] == expected
    assert sorted(printed[len(expected) :]) == sorted(chat)


@through(PATHS)
def test_the_public_client_in_node(path, suite):
    running = suite(path)
    printed = printed_by(["node", CANONICAL / "client.js"], running, running.folder / "ca.pem")
    route, seconds = route_in(printed)
    at = lambda *place: ", ".join(f"{e7 / 1e7!r}".removesuffix(".0") for e7 in place)
    expected = [
        "Looking for features between 40, -75 and 42, -73",
        *(f'Found feature called "{name}" at {at(*place)}' for name, place in FEATURES),
        *(f"Visiting point {at(*place)}" for place in route),
        "Finished trip with 10 points",
        "Passed 10 features",
        f"Travelled {distance(route)} meters",
        f"It took {seconds} seconds",
    ]
    first = [f'Found feature called "{KNOWN}" at {at(409146138, -746188906)}', "Found no feature at 0, 0"]
    notes = {"First": "0, 0", "Second": "0, 1", "Third": "1, 0", "Fourth": "0, 0"}
    chat = [f'Sending message "{number} message" at {place}' for number, place in notes.items()]
    chat += ['Got message "First message" at 0, 0']
    assert sorted(printed[:2]) == first
    assert printed[2 : -len(chat)] == expected
    assert sorted(printed[-len(chat) :]) == sorted(chat)


@through(PATHS)
def test_the_greeter(path, suite, stubs):
    messages, services = stubs["hello"]
    with suite(path).channel("greeter") as channel:
        stub = services.GreeterStub(channel)
        you = messages.HelloRequest(name="you")
        assert stub.SayHello(you, timeout=PATIENCE).message == "Hello you"
        replies = stub.SayHelloStreamReply(you, timeout=PATIENCE)
        assert [reply.message for reply in replies] == [f"Hello you ({n} of 5)" for n in range(1, 6)]
        replies = stub.SayHelloBidiStream(iter([you, you]), timeout=PATIENCE)
        assert [reply.message for reply in replies] == ["Hello you"] * 2


# Who gets the calls


def shares(stub, request, calls):
    """How many of these calls each replica answered."""
    answers = (stub.with_call(request, timeout=PATIENCE)[1] for _ in range(calls))
    return Counter(served_by(call) for call in answers)


@through(L7)
def test_calls_of_one_connection_are_spread_over_the_replicas(path, suite, stubs):
    messages, services = stubs["guide"]
    with suite(path).channel("route-guide") as channel:
        stub, seen = services.RouteGuideStub(channel), Counter()
        # Envoy listens when it knows one healthy replica, not all of them.
        end = time.monotonic() + PATIENCE
        while len(seen) < REPLICAS and time.monotonic() < end:
            seen += shares(stub.GetFeature, messages.Point(), 1)
        found = shares(stub.GetFeature, messages.Point(), 30)
        assert len(found) == REPLICAS and min(found.values()) >= 8, found


@through(L4)
def test_a_connection_stays_with_one_replica(path, suite, stubs):
    messages, services = stubs["guide"]
    with suite(path).channel("route-guide") as channel:
        stub = services.RouteGuideStub(channel)
        assert list(shares(stub.GetFeature, messages.Point(), 30).values()) == [30]


# What goes wrong


@through(L7)
def test_a_method_that_nobody_serves_is_unimplemented(path, suite):
    with suite(path).channel("greeter") as channel:
        call = channel.unary_unary("/no.Such/Method")
        with pytest.raises(grpc.RpcError) as error:
            call(b"", timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


@through(L7)
def test_a_chat_that_is_silent_is_cut_and_the_connection_lives_on(path, suite, stubs):
    messages, services = stubs["guide"]
    with suite(path, idle="2s").channel("route-guide") as channel:
        stub, over = services.RouteGuideStub(channel), threading.Event()

        def notes():
            yield messages.RouteNote(location=messages.Point())
            over.wait(PATIENCE)

        chat = stub.RouteChat(notes(), timeout=PATIENCE)
        with pytest.raises(grpc.RpcError) as error:
            next(chat)
        over.set()
        assert error.value.code() == path.balancer.cut
        stub.GetFeature(messages.Point(), timeout=PATIENCE)


# But for the ALB: nobody has said that it tries another.
@through([path for path in L7 + L4 if path.balancer is not ALB])
def test_a_replica_that_has_gone_costs_no_call(path, suite, stubs):
    messages, services = stubs["guide"]
    running = suite(path)
    # For less than a second, no health check tells the balancer.
    running.replicas["route-guide"][0].stop()
    for _ in range(2 * REPLICAS):
        with running.channel("route-guide") as channel:
            stub = services.RouteGuideStub(channel)
            found = shares(stub.GetFeature, messages.Point(), 5)
            assert "10.0.0.0" not in found, found


@through(L7)
def test_when_no_server_is_left_every_client_hears_unavailable(path, suite, stubs):
    messages, services = stubs["guide"]
    running = suite(path)
    for server in running.replicas["route-guide"]:
        server.stop()
    with running.channel("route-guide") as channel:
        with pytest.raises(grpc.RpcError) as error:
            services.RouteGuideStub(channel).GetFeature(messages.Point(), timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE
    node = subprocess.run(
        ["node", CANONICAL / "client.js", running.target("route-guide"), running.folder / "ca.pem"],
        capture_output=True, text=True, timeout=PATIENCE,
    )
    assert "14 UNAVAILABLE" in node.stderr
    ours = subprocess.run(
        [BINARIES / "route-guide-client", "get-feature", "0,0", "--addr"]
        + [f"https://{running.target('route-guide')}", "--cacert", running.folder / "ca.pem"],
        capture_output=True, text=True, timeout=PATIENCE,
    )
    assert ours.returncode == 64 + 14, ours.stderr


def answers(suite, stubs, over):
    """A queue of who answered, from callers that call without a pause, each on its own connection."""
    messages, services = stubs["guide"]
    queue = SimpleQueue()

    def call():
        with suite.channel("route-guide") as channel:
            stub = services.RouteGuideStub(channel)
            while not over.is_set():
                try:
                    _, answer = stub.GetFeature.with_call(messages.Point(), timeout=PATIENCE)
                    queue.put(served_by(answer))
                except grpc.RpcError as error:
                    queue.put(error)

    for _ in range(CALLERS):
        threading.Thread(target=call, daemon=True).start()
    return queue


@through(L7 + L4)
def test_a_server_that_leaves_costs_no_call_where_its_health_is_asked(path, suite, stubs):
    running = suite(path, lame_duck="4s")
    over = threading.Event()
    queue = answers(running, stubs, over)
    heard, since_it_left = [queue.get(timeout=PATIENCE)], 0
    leaver = running.replicas["route-guide"][int(heard[0][-1])]
    leaver.process.terminate()
    told = time.monotonic()
    while since_it_left < 100:
        heard.append(queue.get(timeout=PATIENCE))
        since_it_left = 0 if heard[-1] == heard[0] else since_it_left + 1
    if path.tls and path.balancer.asks:
        assert time.monotonic() - told < 4, "it still took calls, and should have had none"
    assert leaver.process.wait(PATIENCE) == 0
    heard += (queue.get(timeout=PATIENCE) for _ in range(200))
    over.set()
    lost = [call for call in heard if isinstance(call, grpc.RpcError)]
    # nginx still connects when the server stops listening, and never sends a call twice.
    passive = path.tls and not path.balancer.asks
    assert len(lost) <= (CALLERS if passive else 0), lost
    assert all(call.code() == grpc.StatusCode.UNAVAILABLE for call in lost)
