#!/usr/bin/env python3
"""Counts the instructions of a SayHello by what they are for: tests/lab/bench/layers.py

Instructions, because they are the same in every run and time is not. valgrind (Debian) counts them, and
h2load (Debian's nghttp2-client) calls. The build is without link-time optimisation, which would leave no
function to count by, and so everything costs some more than in a release.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time

CALLS = 2000
LAYERS = {
    "the log line": r"tracing_core::event::Event::dispatch$",
    "what is kept of a call for its line and counts": r"access_log::Call::begin$",
    "counted for /metrics": r"Metrics::call_ended$|Metrics::call_begins$",
    "may it begin: protocol, auth, deadline, limits": r"Shared::may_begin$|Shared::permit$",
    "who answered": r"Identity::stamp$",
    "how replies are packed": r"protocol::reply_in_kind$|protocol::offer_encodings$",
    "bytes watched for stalls and floods": r"watched::Frames::feed$",
    "deadline, panics and the end of the connection": r"guard::Ends::over$",
}


def main():
    profile = {"OPT_LEVEL": "3", "DEBUG_ASSERTIONS": "false", "OVERFLOW_CHECKS": "false"}
    environment = os.environ | {f"CARGO_PROFILE_FUZZ_{name}": value for name, value in profile.items()}
    build = ["cargo", "build", "--quiet", "--profile", "fuzz", "-p", "greeter", "--target-dir", "target/layers"]
    subprocess.run(build, env=environment, check=True)
    with tempfile.TemporaryDirectory() as folder:
        counts = f"{folder}/counts"
        server = subprocess.Popen(
            ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={counts}"]
            + ["target/layers/fuzz/greeter", "--listen", "127.0.0.1:19000", "--log-format", "json"],
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(("127.0.0.1", 19000))
            call(folder, 400)
            control(server, "--instr=on")
            call(folder, CALLS)
            control(server, "--instr=off")
            control(server, "--dump")
        finally:
            server.kill()
            server.wait()
        print_table(f"{counts}.1")


def wait_for(address):
    while True:
        try:
            return socket.create_connection(address).close()
        except OSError:
            time.sleep(0.1)


def call(folder, calls):
    with open(f"{folder}/hello", "wb") as hello:
        hello.write(b"\0\0\0\0\7\n\5tonic")
    said = subprocess.run(
        ["h2load", "-t1", "-c10", "-m20", f"-n{calls}", "-d", hello.name]
        + ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        + ["http://127.0.0.1:19000/helloworld.Greeter/SayHello"],
        check=True, capture_output=True, text=True,
    ).stdout
    if f"{calls} 2xx" not in said:
        sys.exit(said)


def control(server, what):
    subprocess.run(["callgrind_control", what, str(server.pid)], check=True, stdout=subprocess.DEVNULL)


def print_table(counts):
    said = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", counts],
        check=True, capture_output=True, text=True,
    ).stdout
    total = int(re.search(r"([\d,]+) \(100.0%\)  PROGRAM TOTALS", said)[1].replace(",", ""))
    # A function stands there once for each file that was inlined into it; the first has it all.
    functions = {}
    for line in re.finditer(r"^ *([\d,]+) \([ \d.]+%\)  \S*?:(\S+::.*?)(?:'\d+)?(?: \[.*\])?$", said, re.M):
        name = re.sub(r"<([\w:]+)[^>]*>", r"\1", line[2]).strip()
        functions.setdefault(name, int(line[1].replace(",", "")))
    print("| of a SayHello | instructions | share |\n|---|--:|--:|")
    for layer, pattern in LAYERS.items():
        found = [count for name, count in functions.items() if re.search(pattern, name)]
        if not found:
            sys.exit(f"{layer}: no such function")
        print(f"| {layer} | {sum(found) // CALLS} | {sum(found) / total:.1%} |")
    print(f"| all | {total // CALLS} | |")


if __name__ == "__main__":
    main()
