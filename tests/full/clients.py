"""The servers as Python's grpcio and grpcurl find them: stubs made from our protos, the public
transcript, health, errors with details, TLS and mTLS."""

import json
import signal
import subprocess

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from conftest import DATABASE, PATIENCE, ROOT, TRANSCRIPT


@pytest.fixture
def guide(serve, stubs):
    """A fresh RouteGuide: its messages and a stub."""
    messages, services = stubs["guide"]
    with grpc.insecure_channel(serve("route-guide").addr) as channel:
        yield messages, services.RouteGuideStub(channel)


@pytest.fixture
def greeter(serve, stubs):
    """A fresh Greeter: its messages and a stub."""
    messages, services = stubs["hello"]
    with grpc.insecure_channel(serve("greeter").addr) as channel:
        yield messages, services.GreeterStub(channel)


def point(messages, pair):
    latitude, longitude = pair.values() if isinstance(pair, dict) else pair
    return messages.Point(latitude=latitude, longitude=longitude)


def notes(messages, entries):
    return [
        messages.RouteNote(message=entry["message"], location=point(messages, entry["location"]))
        for entry in entries
    ]


# grpcio


def test_get_feature(guide):
    messages, stub = guide
    for expected in TRANSCRIPT["get_feature"]:
        asked = point(messages, expected["request"])
        feature = stub.GetFeature(asked, timeout=PATIENCE)
        assert feature.name == expected["name"]
        assert feature.location == asked


def test_list_features(guide):
    messages, stub = guide
    corners = TRANSCRIPT["list_features"]["rectangle"]
    area = messages.Rectangle(**{name: point(messages, corners[name]) for name in corners})
    found = [
        {
            "location": {
                "latitude": feature.location.latitude,
                "longitude": feature.location.longitude,
            },
            "name": feature.name,
        }
        for feature in stub.ListFeatures(area, timeout=PATIENCE)
    ]
    assert found == DATABASE


def test_record_route(guide):
    messages, stub = guide
    route = TRANSCRIPT["record_route"]
    points = (point(messages, entry) for entry in route["points"])
    summary = stub.RecordRoute(points, timeout=PATIENCE)
    assert (summary.point_count, summary.feature_count, summary.distance) == (10, 10, 863981)
    assert summary.elapsed_time < PATIENCE


def test_route_chat(guide):
    messages, stub = guide
    sent = notes(messages, TRANSCRIPT["route_chat"]["sent"])
    received = list(stub.RouteChat(iter(sent), timeout=PATIENCE))
    assert received == notes(messages, TRANSCRIPT["route_chat"]["received_on_a_fresh_server"])
    again = [note.message for note in stub.RouteChat(iter(sent), timeout=PATIENCE)]
    assert again[:2] == ["First message", "Fourth message"]


def test_greeter(greeter):
    messages, stub = greeter
    request = messages.HelloRequest(name="you")
    assert stub.SayHello(request, timeout=PATIENCE).message == "Hello you"
    replies = [reply.message for reply in stub.SayHelloStreamReply(request, timeout=PATIENCE)]
    assert replies == [f"Hello you ({number} of 5)" for number in range(1, 6)]
    replies = stub.SayHelloBidiStream(iter([request, request]), timeout=PATIENCE)
    assert [reply.message for reply in replies] == ["Hello you"] * 2


def refused_field(error):
    """The field that an INVALID_ARGUMENT names in its details."""
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    [detail] = rpc_status.from_call(error.value).details
    refusal = error_details_pb2.BadRequest()
    assert detail.Unpack(refusal)
    [violation] = refusal.field_violations
    return violation.field


def test_what_is_missing_is_refused_with_its_field(guide, greeter):
    messages, stub = guide
    with pytest.raises(grpc.RpcError) as error:
        list(stub.ListFeatures(messages.Rectangle(), timeout=PATIENCE))
    assert refused_field(error) == "lo"
    with pytest.raises(grpc.RpcError) as error:
        list(stub.RouteChat(iter([messages.RouteNote()]), timeout=PATIENCE))
    assert refused_field(error) == "location"
    assert stub.GetFeature(messages.Point(), timeout=PATIENCE).name == ""
    messages, stub = greeter
    with pytest.raises(grpc.RpcError) as error:
        stub.SayHello(messages.HelloRequest(), timeout=PATIENCE)
    assert refused_field(error) == "name"


def test_every_answer_says_who_gave_it(greeter):
    messages, stub = greeter
    _, call = stub.SayHello.with_call(messages.HelloRequest(name="you"), timeout=PATIENCE)
    names = {name for name, _ in call.initial_metadata()}
    assert {"x-served-by", "x-served-version"} <= names


def test_health(serve):
    server = serve("route-guide")
    with grpc.insecure_channel(server.addr) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ["", "routeguide.RouteGuide"]:
            request = health_pb2.HealthCheckRequest(service=service)
            assert stub.Check(request, timeout=PATIENCE).status == health_pb2.HealthCheckResponse.SERVING
        unknown = health_pb2.HealthCheckRequest(service="no.Such")
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(unknown, timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(unknown, timeout=PATIENCE)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def tls_flags(folder):
    return ["--tls-cert", folder / "server.pem", "--tls-key", folder / "server.key"]


def test_tls_and_mtls(serve, stubs, certificates):
    messages, services = stubs["hello"]
    read = lambda name: (certificates / name).read_bytes()
    mtls = ["--tls-client-ca", certificates / "ca.pem"]
    for flags, identity, welcome in [
        ([], [], True),
        (mtls, [read("client.key"), read("client.pem")], True),
        (mtls, [], False),
    ]:
        server = serve("greeter", *tls_flags(certificates), *flags)
        credentials = grpc.ssl_channel_credentials(read("ca.pem"), *identity)
        with grpc.secure_channel(server.addr, credentials) as channel:
            stub = services.GreeterStub(channel)
            request = messages.HelloRequest(name="TLS")
            if welcome:
                assert stub.SayHello(request, timeout=PATIENCE).message == "Hello TLS"
            else:
                with pytest.raises(grpc.RpcError) as error:
                    stub.SayHello(request, timeout=PATIENCE)
                assert error.value.code() == grpc.StatusCode.UNAVAILABLE


# grpcurl


def grpcurl(*arguments, stdin=None):
    outcome = subprocess.run(
        ["grpcurl", "-max-time", str(PATIENCE), *map(str, arguments)],
        input=stdin, capture_output=True, text=True, timeout=2 * PATIENCE,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def messages_of(output):
    """The JSON objects that follow one another in what grpcurl prints."""
    decoder, found = json.JSONDecoder(), []
    while output := output.strip():
        message, end = decoder.raw_decode(output)
        found.append(message)
        output = output[end:]
    return found


def call(addr, method, *requests):
    stdin = "".join(map(json.dumps, requests))
    return messages_of(grpcurl("-plaintext", "-d", "@", addr, method, stdin=stdin))


def test_grpcurl_calls_every_kind_of_method(serve):
    addr = serve("route-guide").addr
    first = DATABASE[0]
    place = first["location"]
    assert call(addr, "routeguide.RouteGuide/GetFeature", place) == [first]
    area = {"lo": place, "hi": place}
    assert call(addr, "routeguide.RouteGuide/ListFeatures", area) == [first]
    route = TRANSCRIPT["record_route"]["points"]
    [summary] = call(addr, "routeguide.RouteGuide/RecordRoute", *route)
    assert summary["distance"] == 863981
    note = {"location": place, "message": "hi"}
    assert call(addr, "routeguide.RouteGuide/RouteChat", note, note) == [note]

    addr = serve("greeter").addr
    you = {"name": "you"}
    assert call(addr, "helloworld.Greeter/SayHello", you) == [{"message": "Hello you"}]
    assert len(call(addr, "helloworld.Greeter/SayHelloStreamReply", you)) == 5
    assert len(call(addr, "helloworld.Greeter/SayHelloBidiStream", you, you)) == 2
    assert call(addr, "grpc.health.v1.Health/Check", {}) == [{"status": "SERVING"}]


def test_grpcurl_speaks_tls_and_mtls(serve, certificates):
    server = serve("greeter", *tls_flags(certificates))
    method = ["-d", '{"name":"TLS"}', server.addr, "helloworld.Greeter/SayHello"]
    trusting = ["-cacert", certificates / "ca.pem"]
    assert messages_of(grpcurl(*trusting, *method)) == [{"message": "Hello TLS"}]

    server = serve(
        "greeter", *tls_flags(certificates), "--tls-client-ca", certificates / "ca.pem"
    )
    method[2] = server.addr
    identity = ["-cert", certificates / "client.pem", "-key", certificates / "client.key"]
    assert messages_of(grpcurl(*trusting, *identity, *method)) == [{"message": "Hello TLS"}]
    with pytest.raises(AssertionError):
        grpcurl(*trusting, *method)


def test_the_lines_that_the_demo_prints_work():
    with subprocess.Popen(
        ["cargo", "demo", "--", "--serve"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as demo:
        commands = []
        for line in demo.stdout:
            if "grpcurl" in line:
                commands.append(line)
            if "Ctrl-C" in line:
                break
        assert len(commands) == 3
        outputs = [
            subprocess.run(line, shell=True, capture_output=True, check=True, text=True).stdout
            for line in commands
        ]
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE) == 0
    listed, feature, replies = outputs
    assert "routeguide.RouteGuide" in listed.split()
    assert messages_of(feature)[0]["name"] == TRANSCRIPT["get_feature"][0]["name"]
    assert len(messages_of(replies)) == 5
