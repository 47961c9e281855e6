"""Makes 300 calls on one connection at each entry of the topology, and prints who answered how many:
behind L7 every replica its third, behind L4 one of them all. Needs grpcio. Usage: spread.py CA_CERTIFICATE"""

import pathlib
import sys
from collections import Counter

import grpc

CALLS = 300


def answers(channel):
    """How many calls each replica answered. A point of no bytes is 0,0."""
    call = channel.unary_unary("/routeguide.RouteGuide/GetFeature")
    metadata = (call.with_call(b"", timeout=10)[1].initial_metadata() for _ in range(CALLS))
    return Counter(dict(pairs)["x-served-by"] for pairs in metadata)


trusted = grpc.ssl_channel_credentials(pathlib.Path(sys.argv[1]).read_bytes())
with grpc.secure_channel("localhost:8443", trusted) as l7, grpc.insecure_channel("localhost:8050") as l4:
    entries = {"8443, L7": answers(l7), "8050, L4": answers(l4)}

replicas = sorted(set().union(*entries.values()))
print("| entry |", " | ".join(replicas), "|")
print("|---" * (1 + len(replicas)) + "|")
for entry, counts in entries.items():
    print(f"| {entry} |", " | ".join(f"{counts[replica]:{len(replica)}}" for replica in replicas), "|")
