"""Clients and a server that we did not write, at full speed and within what HTTP/2 and gRPC allow: no limit
of ours may touch them. Nearly all have a bystander, a chat that is opened before on the same connection, in
which hardly anything is said and which must be alive in the end: a library makes a new connection when one
is lost, and then only that tells."""

import contextlib
import json
import os
import subprocess
import threading
from queue import SimpleQueue

import grpc
import pytest

from conftest import BINARIES, DATABASE, PATIENCE, ROOT
from proxies import BALANCERS, L7, Path, authority, suite, through  # noqa: F401 (two are fixtures)

LEGAL = ROOT / "target/full/legal"
# One server behind each, so that the calls of a case share what a balancer connects as well.
PATHS = [Path("direct"), *(path for path in L7 if path.balancer in (BALANCERS["envoy"], BALANCERS["haproxy"]))]
# Debug builds have their time with a fifth, which is ten times what it took to be cut off.
MANY = 500_000 if os.environ.get("LONG") else 100_000
SOME = 20_000
# By case: how many, the flags of the server and of the client.
CASES = {
    "record": (MANY, [], []),
    "list": (MANY, ["--features-file", "{features}"], []),
    "invalid": (6_000, [], []),
    "large": (6_000, [], []),
    "unauthenticated": (6_000, ["--tokens-file", "{tokens}"], ["--token", "known"]),
    "shed": (6_000, ["--max-calls", "1"], []),
    "deadline": (6_000, ["--unary-timeout", "10ms"], []),
    "chats": (2_000, ["--notes-per-point", "10"], []),
    "unary": (SOME, [], []),
    "cancel": (10_000, [], []),
    "health": (20_000, [], []),
    # Seconds.
    "soak": (5, ["--max-connection-age", "1s"], []),
}
# What Envoy closes a client's connection for, and grpc-go resets what is answered before it is complete:
# more than half of the first 500 reset in their first second, or more than 1000 and then 33 a second. So
# there they come on many connections; Envoy gathers them on one to the server.
CUT_SHORT = ["invalid", "large", "unauthenticated", "shed", "deadline", "cancel"]
TURN = ["--turn", "200"]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The files that servers are started with, by name."""
    folder = tmp_path_factory.mktemp("files")
    with open(folder / "features", "w") as features:
        subprocess.run([BINARIES / "make-features", str(MANY)], stdout=features, check=True)
    (folder / "tokens").write_text("known\n")
    return {name: folder / name for name in ["features", "tokens"]}


@pytest.fixture
def running(suite, serve):
    """Starts a suite on a path, with one route guide that has these flags."""
    return lambda path, *flags: suite(path, guides=[serve("route-guide", *flags)])


def output(command, **options):
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, **options)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def trusting(suite, flag):
    """What tells a client whom to trust."""
    return [flag, suite.folder / "ca.pem"] if suite.path.tls else []


# grpc-go


# But for HAProxy with chats that stall: before 3.1 it reads nothing from a connection on which one stream
# cannot go on, so the bystander waits there.
@pytest.mark.parametrize("path, case", [
    pytest.param(path, case, id=f"{case}-{path.name}")
    for case in CASES for path in PATHS if (case, path.name) != ("chats", "haproxy-l7")
])
def test_grpc_go(case, path, running, files):
    count, server, client = CASES[case]
    started = running(path, *(flag.format(**files) for flag in server))
    if path.name == "envoy-l7" and case in CUT_SHORT:
        client = [*client, *TURN]
    command = [LEGAL, *trusting(started, "--ca"), *client, case, started.target("route-guide"), str(count)]
    told = output(command)
    # Envoy holds all that they say.
    assert (case, path.name) != ("chats", "direct") or "stalled: true" in told


class Foreign:
    """A RouteGuide of grpc-go's."""

    def __init__(self, process):
        listening = json.loads(process.stdout.readline())
        self.port, self.admin_port = (listening[name].rpartition(":")[2] for name in ["grpc", "admin"])
        self.addr = f"127.0.0.1:{self.port}"


@through(PATHS)
def test_our_client_takes_all_that_grpc_go_sends(path, suite):
    with subprocess.Popen([LEGAL, "serve", str(MANY)], stdout=subprocess.PIPE) as process:
        try:
            started = suite(path, guides=[Foreign(process)])
            scheme = "https" if path.tls else "http"
            client = [BINARIES / "route-guide-client", "--addr", f"{scheme}://{started.target('route-guide')}"]
            client += [*trusting(started, "--cacert"), "--max-time", "60", "-o", "json"]
            assert output([*client, "list-features", "0,0", "1,1"]).count("\n") == MANY
        finally:
            process.terminate()


# grpcio, grpc-js and grpcurl


@contextlib.contextmanager
def bystander(messages, stub):
    """A chat on this stub's channel that must be alive in the end."""
    said, heard = SimpleQueue(), []
    chat = stub.RouteChat(iter(said.get, None))
    note = messages.RouteNote(location=messages.Point(latitude=1), message="still here")

    def speak():
        """Says something, and hears all that it said before."""
        said.put(note)
        for _ in heard:
            assert next(chat) == note
        heard.append(note)

    over = threading.Timer(2 * PATIENCE, chat.cancel)
    over.start()
    speak()
    speak()
    yield
    speak()
    said.put(None)
    assert list(chat) == []
    over.cancel()


@through(PATHS)
def test_grpcio(path, running, stubs):
    messages, services = stubs["guide"]
    with running(path).channel("route-guide") as channel:
        stub = services.RouteGuideStub(channel)
        with bystander(messages, stub):
            place = messages.Point(latitude=409146138, longitude=-746188906)
            summary = stub.RecordRoute((place for _ in range(SOME)), timeout=PATIENCE)
            assert summary.point_count == SOME
            for _ in range(SOME // 100):
                off_the_globe = messages.Point(latitude=900000001)
                with pytest.raises(grpc.RpcError) as error:
                    stub.RecordRoute((off_the_globe for _ in range(SOME)), timeout=PATIENCE)
                assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@through(PATHS)
def test_grpc_js(path, running):
    started = running(path)
    client = ["node", ROOT / "tests/full/legal.js", started.target("route-guide"), str(SOME)]
    output([*client, *trusting(started, "")[1:]])


@through(PATHS)
def test_grpcurl(path, running):
    started = running(path)
    client = ["grpcurl", *(trusting(started, "-cacert") or ["-plaintext"]), "-d", "@"]
    # Reflection goes to the server, too.
    client += [started.target("route-guide"), "routeguide.RouteGuide/RecordRoute"]
    points = json.dumps(DATABASE[0]["location"]) * SOME
    assert json.loads(output(client, input=points))["pointCount"] == SOME
