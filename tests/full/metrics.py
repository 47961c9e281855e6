"""`/metrics` beside the strict OpenMetrics parser of Prometheus's own client for Python."""

import math
import re
import urllib.request

import grpc
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from conftest import ROOT


def page(server):
    with urllib.request.urlopen(f"http://localhost:{server.admin_port}/metrics") as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_the_strict_parser_finds_every_documented_name_with_its_type(serve, stubs):
    messages, services = stubs["hello"]
    server = serve("greeter")
    with grpc.insecure_channel(server.addr) as channel:
        greeter = services.GreeterStub(channel)
        for _ in range(3):
            greeter.SayHello(messages.HelloRequest(name="metrics"))
    content_type, text = page(server)
    assert content_type.split("; ") == CONTENT_TYPE_LATEST.split("; ")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    rows = re.findall(r"^\| `(\w+)` \| (\w+) ", (ROOT / "docs/observability.md").read_text(), re.MULTILINE)
    # What has not happened has no sample, and so no name; greeter depends on nothing.
    absent = {"dependency_up", "grpc_server_rejected", "grpc_server_connections_failed"}
    documented = {(name, kind) for name, kind in rows if name not in absent}
    assert len(documented) > 15
    assert documented <= {(family.name, family.type) for family in families.values()}
    labels = {"grpc_type": "unary", "grpc_service": "helloworld.Greeter", "grpc_method": "SayHello"}
    handled = families["grpc_server_handled"].samples
    assert [sample.value for sample in handled if sample.labels == labels | {"grpc_code": "OK"}] == [3]
    buckets = [
        sample
        for sample in families["grpc_server_handling_seconds"].samples
        if sample.name.endswith("_bucket") and labels.items() <= sample.labels.items()
    ]
    bounds = [float(sample.labels["le"]) for sample in buckets]
    assert bounds[0] == 50e-6 and bounds[-2:] == [60, math.inf] and buckets[-1].value == 3
