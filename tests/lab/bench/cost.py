#!/usr/bin/env python3
"""Counts the instructions and the allocations of a call in the release, and fails if they have risen:
tests/lab/bench/cost.py [--quick]

With --quick it counts in a debug build, sees that it can, and judges nothing. Both repeat, where time does not. valgrind (Debian) counts them, and h2load (Debian's nghttp2-client) calls. What
starting and ending cost is in two runs of unlike length alike, and so not in their difference.
"""

import re
import socket
import subprocess
import sys
import tempfile
import time

ADDRESS = "127.0.0.1:19000"
QUICK = sys.argv[1:] == ["--quick"]
PROFILE = "debug" if QUICK else "release"
SHORT, LONG = (0, 20) if QUICK else (1000, 6000)
TOOLS = {
    "instructions": (["--tool=callgrind", "--callgrind-out-file=/dev/null"], r"Collected : (\d+)"),
    "allocations": (["--tool=dhat", "--dhat-out-file=/dev/null"], r"Total: .* in ([\d,]+) blocks"),
}
HELLO = b"\x0a\x05tonic"
POINT = bytes.fromhex("088fbdbcc20110edff9a9cfdffffffff01")
RECTANGLE = b"\x0a\x11" + POINT + b"\x12\x11" + POINT
# Server, path, request, and the most that a call may cost. Whoever makes it dearer changes the figure here.
CALLS = {
    "SayHello": ("greeter", "helloworld.Greeter/SayHello", HELLO, (61_200, 24)),
    "ListFeatures": ("route-guide", "routeguide.RouteGuide/ListFeatures", RECTANGLE, (71_900, 27)),
}


def main():
    build = ["cargo", "build", "--quiet", "--workspace", "--bins"] + ([] if QUICK else ["--release"])
    subprocess.run(build, check=True)
    counts = dearer = 0
    print("| of a call | counted | at most |\n|---|--:|--:|")
    for name, (server, path, request, figures) in list(CALLS.items())[: 1 if QUICK else None]:
        for what, most in zip(TOOLS, figures):
            short = 0 if QUICK else count(what, server, path, request, SHORT)
            long = count(what, server, path, request, LONG)
            # The rest is what grows now and then, such as a table.
            counted = round((long - short) / (LONG - SHORT))
            print(f"| {what}, {name} | {counted} | {most} |", flush=True)
            counts += 1
            dearer += counted <= 0 if QUICK else counted > most
    print(f"{counts - dearer} passed, {dearer} failed")
    sys.exit(dearer > 0)


def count(what, server, path, request, calls):
    options, found = TOOLS[what]
    command = ["valgrind", *options, f"target/{PROFILE}/{server}", "--listen", ADDRESS, "--log-format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(process)
        call(path, request, calls)
    finally:
        process.terminate()
        said = process.communicate()[1]
    return int(re.search(found, said)[1].replace(",", ""))


def wait_for(process):
    host, port = ADDRESS.split(":")
    while process.poll() is None:
        try:
            return socket.create_connection((host, int(port))).close()
        except OSError:
            time.sleep(0.1)


def call(path, request, calls):
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        command = ["h2load", "-t1", "-c1", "-m20", f"-n{calls}", "-d", body.name]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{ADDRESS}/{path}"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if f"{calls} 2xx" not in said:
        sys.exit(said)


if __name__ == "__main__":
    main()
