"""What the Python parts of the second tier share: the binaries, as servers, and stubs for them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import trustme
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Those of `tests/full/tools`.
BINARIES = ROOT / "target" / ("release" if os.environ.get("LONG") else "debug")
TRANSCRIPT = json.loads((ROOT / "data/transcript.json").read_text())
DATABASE = json.loads((ROOT / "data/route_guide_db.json").read_text())
PATIENCE = 30


@pytest.fixture(scope="session")
def stubs(tmp_path_factory):
    """The modules that protoc makes of our protos, by name."""
    folder = tmp_path_factory.mktemp("stubs")
    protos = ["helloworld.proto", "route_guide.proto"]
    out = [f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", f"-I{ROOT / 'proto'}", *out, *protos]) == 0
    sys.path.insert(0, str(folder))
    import helloworld_pb2, helloworld_pb2_grpc, route_guide_pb2, route_guide_pb2_grpc

    return {
        "hello": (helloworld_pb2, helloworld_pb2_grpc),
        "guide": (route_guide_pb2, route_guide_pb2_grpc),
    }


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """The paths of an authority and of the server's and a client's certificate and key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ["server", "client"]:
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
    return folder


class Server:
    """A server on free ports."""

    def __init__(self, name, *flags, lame_duck="0s"):
        listen = ["--listen", "127.0.0.1:0", "--log-format", "json", "--lame-duck", lame_duck]
        self.process = subprocess.Popen([BINARIES / name, *listen, *flags], stdout=subprocess.PIPE)
        listening = json.loads(self.process.stdout.readline())
        self.port = listening["grpc"].rpartition(":")[2]
        self.admin_port = listening["admin"].rpartition(":")[2]
        self.addr = f"localhost:{self.port}"

    def stop(self):
        self.process.terminate()
        self.ended()

    def ended(self):
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture
def serve():
    """Starts servers, and stops them after the test."""
    servers = []

    def start(*arguments, **options):
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    # All at once, for each may take its time.
    for server in servers:
        server.process.terminate()
    for server in servers:
        server.ended()
