"""gRPC's interop cases between our client, our server and those of grpcio and grpc-js, in plaintext,
with TLS and with mTLS. What a library has no way to say or see is n/a, with the reason; all else of
such a case is played and must go well."""

import contextlib
import json
import subprocess
import sys

import pytest
from conftest import BINARIES, PATIENCE, ROOT

DRIVERS = ROOT / "tests/full/interop"

CLIENTS = {
    "ours": [BINARIES / "interop-client", "--max-time", "60"],
    "grpcio": [sys.executable, DRIVERS / "client.py"],
    "grpc-js": ["node", DRIVERS / "client.js"],
}
SERVERS = {
    "ours": [BINARIES / "interop-server", *"--listen 127.0.0.1:0 --log-format json --lame-duck 0s".split()],
    "grpcio": [sys.executable, DRIVERS / "server.py"],
    "grpc-js": ["node", DRIVERS / "server.js"],
}
PAIRS = [
    ("grpcio", "ours"),
    ("grpc-js", "ours"),
    ("ours", "ours"),
    ("ours", "grpcio"),
    ("ours", "grpc-js"),
]
TRANSPORTS = ["plaintext", "TLS", "mTLS"]
CASES = """
    empty_unary large_unary client_streaming server_streaming ping_pong empty_stream
    status_code_and_message special_status_message custom_metadata unimplemented_method
    unimplemented_service client_compressed_unary server_compressed_unary
    client_compressed_streaming server_compressed_streaming cancel_after_begin
    cancel_after_first_response timeout_on_sleeping_server concurrent_large_unary rpc_soak
    channel_soak
""".split()

# How it shows in our client that a library's server cannot do what a case is about, and why it cannot.
# What the libraries' clients cannot, they say themselves.
UNSEEN = "failed: the call went well, and InvalidArgument was expected"
UNPACKED = "failed: whether the response came packed"
SERVES_NOT = {
    "grpcio": {UNSEEN: "grpcio does not tell whether a message came packed"},
    "grpc-js": {
        UNSEEN: "grpc-js does not tell whether a message came packed",
        UNPACKED: "grpc-js's servers pack no messages",
    },
}


@pytest.fixture(scope="module")
def outcomes(request):
    """Outcomes by pair and transport, and then by case. In the end they are printed as a table."""
    outcomes = {}
    yield outcomes
    text = table(outcomes)
    (ROOT / "target/full/interop.md").write_text(text)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + text)


def table(outcomes):
    """A row for each case and a column for each pair, with the reasons of what is n/a beneath."""
    reasons = []

    def cell(pair, case):
        found = [outcomes.get((*pair, transport), {}).get(case, "-") for transport in TRANSPORTS]
        for outcome in found:
            if outcome.startswith("n/a: ") and outcome not in reasons:
                reasons.append(outcome)
        short = [
            f"n/a {reasons.index(outcome) + 1}" if outcome in reasons else outcome.partition(":")[0]
            for outcome in found
        ]
        return short[0] if len(set(short)) == 1 else ", ".join(short)

    rows = [[case, *(cell(pair, case) for pair in PAIRS)] for case in CASES]
    heads = ["client → server", *(f"{client} → {server}" for client, server in PAIRS)]
    lines = [heads, ["---"] * len(heads), *rows]
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    title = f"Each in {', '.join(TRANSPORTS)}."
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines), "", *notes, ""])


@contextlib.contextmanager
def serving(command):
    """Runs a server, and gives its port."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield json.loads(process.stdout.readline())["grpc"].rpartition(":")[2]
        finally:
            process.terminate()
            process.wait(PATIENCE)


def security(transport, folder):
    """The flags of a server and of a client, and the scheme."""
    if transport == "plaintext":
        return [], [], "http"
    server = ["--tls-cert", folder / "server.pem", "--tls-key", folder / "server.key"]
    client = ["--cacert", folder / "ca.pem"]
    if transport == "mTLS":
        server += ["--tls-client-ca", folder / "ca.pem"]
        client += ["--cert", folder / "client.pem", "--key", folder / "client.key"]
    return server, client, "https"


def judged(server, outcome):
    """The outcome, in view of what the server cannot do."""
    for failure, reason in SERVES_NOT.get(server, {}).items():
        if outcome.startswith(failure):
            return f"n/a: {reason}"
    return outcome


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("client, server", PAIRS)
def test_interop(client, server, transport, certificates, outcomes):
    server_flags, client_flags, scheme = security(transport, certificates)
    with serving([*SERVERS[server], *server_flags]) as port:
        command = [*CLIENTS[client], "--addr", f"{scheme}://localhost:{port}", *client_flags]
        played = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=10 * PATIENCE)
    found = dict(line.split(" ", 1) for line in played.stdout.splitlines())
    found = {case: judged(server, outcome) for case, outcome in found.items()}
    outcomes[client, server, transport] = found
    assert list(found) == CASES
    assert [line for line in found.items() if line[1].startswith("failed")] == []
