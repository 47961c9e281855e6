"""What lambda.sh has built: what is in the zips, and how long a cold start takes."""

import base64
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

RUNS = 20
# Lambda takes 50 MB of zip; the functions are far smaller, and a cold start reads all of it.
LARGEST_ZIP = 5_000_000
AARCH64 = 183

HELLO = b"\0\0\0\0\x05\n\x03Ada"
HELLO_ADA = b"\0\0\0\0\x0b\n\tHello Ada"
API_GATEWAY = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/helloworld.Greeter/SayHello",
    "rawQueryString": "",
    "headers": {"content-type": "application/grpc-web+proto"},
    "requestContext": {
        "http": {"method": "POST", "path": "/helloworld.Greeter/SayHello"},
        "stage": "$default",
    },
    "body": base64.b64encode(HELLO).decode(),
    "isBase64Encoded": True,
}


def check_zip(name):
    path = f"target/lambda/{name}/bootstrap.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["bootstrap"], archive.namelist()
        entry = archive.getinfo("bootstrap")
        assert entry.external_attr >> 16 & 0o111, "not executable"
        head = archive.read(entry)[:20]
    assert head[:4] == b"\x7fELF", head
    (machine,) = struct.unpack_from("<H", head, 18)
    assert machine == AARCH64, machine
    size = os.path.getsize(path)
    assert size < LARGEST_ZIP, size
    print(f"size: {path} is {size:,} bytes, and {entry.file_size:,} unpacked")


class RuntimeApi(HTTPServer):
    """Gives a function one event, and notes when it asks and when it answers."""

    def __init__(self, event):
        super().__init__(("127.0.0.1", 0), Handler)
        self.event = json.dumps(event).encode()
        self.asked = self.answered = self.answer = None
        self.done = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        """The function is killed when it has answered."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        api = self.server
        if api.asked is not None:
            # There is but one event, and the connection is kept open.
            return api.done.wait()
        api.asked = time.perf_counter()
        self.send_response(200)
        for name, value in {
            "lambda-runtime-aws-request-id": "1",
            "lambda-runtime-deadline-ms": str(int(time.time() * 1000) + 30_000),
            "lambda-runtime-invoked-function-arn": "arn:aws:lambda:eu-west-1:1:function:f",
            "content-length": str(len(api.event)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(api.event)

    def do_POST(self):
        api = self.server
        body = b""
        if self.headers["transfer-encoding"] == "chunked":
            while length := int(self.rfile.readline(), 16):
                body += self.rfile.read(length + 2)[:-2]
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        api.answered = time.perf_counter()
        api.answer = json.loads(body)
        api.done.set()
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def cold_function(name, event, **environment):
    """Milliseconds from exec to the first question, and to the first answer; and the answer."""
    api = RuntimeApi(event)
    environment |= {
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
    }
    began = time.perf_counter()
    function = subprocess.Popen(
        [f"target/release/{name}"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        assert api.done.wait(20), "no answer"
    finally:
        function.kill()
        function.wait()
        threading.Thread(target=api.shutdown, daemon=True).start()
        api.server_close()
    return (api.asked - began) * 1000, (api.answered - began) * 1000, api.answer


def h2(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def hello_over_http2(port):
    """SayHello, once somebody listens, to the greeting."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/helloworld.Greeter/SayHello",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    # Literals that are not to be indexed.
    head = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    request = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2(4, 0, 0, b"") + h2(1, 4, 1, head) + h2(0, 1, 1, HELLO)
    stream, patience = None, time.perf_counter() + 20
    while stream is None:
        try:
            stream = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.perf_counter() < patience, "nobody listens"
            time.sleep(0.0002)
    with stream:
        stream.sendall(request)
        came = b""
        while HELLO_ADA not in came:
            more = stream.recv(65536)
            assert more, came
            came += more


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def greeter():
    """A server, which may not yet listen, as its port."""
    port = free_port()
    flags = [f"--listen=127.0.0.1:{port}", "--admin-listen=127.0.0.1:0", "--pod-ip=10.0.1.7"]
    server = subprocess.Popen(["target/release/greeter", *flags], env={}, stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.kill()
        server.wait()


def cold_server():
    """Milliseconds from exec to the first greeting."""
    began = time.perf_counter()
    with greeter() as port:
        hello_over_http2(port)
        return (time.perf_counter() - began) * 1000


def told(times):
    return f"{statistics.median(times):.1f} ms (of {RUNS} runs, {min(times):.1f} to {max(times):.1f})"


def check_cold_starts():
    server = [cold_server() for _ in range(RUNS)]
    print("cold start, on this machine and from its cache: from exec to")
    print(f"  the first greeting of greeter: {told(server)}")

    runs = [cold_function("greeter-lambda", API_GATEWAY) for _ in range(RUNS)]
    for _, _, answer in runs:
        body = base64.b64decode(answer["body"])
        assert body.startswith(HELLO_ADA) and b"grpc-status:0\r\n" in body, answer
    print(f"  the first event of greeter-lambda: {told([asked for asked, _, _ in runs])}")
    print(f"  its first answer: {told([answered for _, answered, _ in runs])}")

    with greeter() as port:
        hello_over_http2(port)
        url = f"http://127.0.0.1:{port}"
        runs = [cold_function("greeter-caller", {"name": "Ada"}, GREETER_URL=url) for _ in range(RUNS)]
    for _, _, answer in runs:
        assert answer == {"message": "Hello Ada", "served_by": "10.0.1.7"}, answer
    print(f"  the first event of greeter-caller: {told([asked for asked, _, _ in runs])}")
    print(f"  its first answer, connecting included: {told([answered for _, answered, _ in runs])}")


def main():
    passed = failed = 0
    for check, *arguments in [
        (check_zip, "greeter-lambda"),
        (check_zip, "greeter-caller"),
        (check_cold_starts,),
    ]:
        try:
            check(*arguments)
            passed += 1
        except (AssertionError, OSError) as error:
            print(f"{check.__name__}{tuple(arguments)}: {error!r}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
