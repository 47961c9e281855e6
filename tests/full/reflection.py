"""Server reflection: our answers beside those of grpc-go's server, and what grpcio's DescriptorPool, grpcurl and
buf make of them."""

import json
import subprocess

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from clients import grpcurl
from conftest import PATIENCE, ROOT

BUF = ROOT / "target/full/node_modules/.bin/buf"
LEGAL = ROOT / "target/full/legal"
OF_CHASSIS = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


@pytest.fixture
def grpc_go():
    """The address of a server of grpc-go's, with health and reflection."""
    with subprocess.Popen([LEGAL, "describe"], stdout=subprocess.PIPE) as process:
        yield json.loads(process.stdout.readline())["grpc"]
        process.terminate()


# Beside grpc-go


def symbol(name):
    return {"file_containing_symbol": name}


def file(name):
    return {"file_by_filename": name}


def extension(name, number):
    return {"file_containing_extension": {"containing_type": name, "extension_number": number}}


def numbers(name):
    return {"all_extension_numbers_of_type": name}


# Of what both serve, on one stream.
QUESTIONS = [
    symbol("grpc.health.v1.Health"),
    symbol("grpc.health.v1.Health.Check"),
    symbol("grpc.health.v1.HealthCheckRequest.service"),
    symbol("grpc.health.v1.HealthCheckResponse.ServingStatus"),
    symbol("grpc.health.v1.HealthCheckResponse.SERVING"),
    symbol("grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING"),
    symbol("grpc.reflection.v1.ServerReflectionRequest.message_request"),
    symbol("grpc.reflection.v1alpha.ServerReflection"),
    symbol("google.rpc.BadRequest.FieldViolation"),
    symbol("google.rpc.BadRequest"),
    symbol("google.rpc.ErrorInfo.MetadataEntry"),
    symbol("grpc.health.v1"),
    symbol(".grpc.health.v1.Health"),
    symbol("no.Such"),
    symbol(""),
    file("grpc/health/v1/health.proto"),
    file("grpc/reflection/v1/reflection.proto"),
    file("google/rpc/error_details.proto"),
    file("google/rpc/status.proto"),
    file("google/protobuf/duration.proto"),
    file("health.proto"),
    file(""),
    extension("google.rpc.Status", 100),
    extension("no.Such", 100),
    numbers("google.rpc.Status"),
    numbers("grpc.health.v1.Health"),
    numbers("no.Such"),
    symbol("google.rpc.Status"),
]


def in_words(answer):
    kind = answer.WhichOneof("message_response")
    value = getattr(answer, kind)
    if kind == "file_descriptor_response":
        return [FileDescriptorProto.FromString(each).name for each in value.file_descriptor_proto]
    # The words of an error are each server's own.
    return value.error_code if kind == "error_response" else str(value)


def answers(addr, version, questions):
    """What a server answers on one stream, and the code that ends it."""
    asked = [reflection_pb2.ServerReflectionRequest(host="an.example", **each) for each in questions]
    with grpc.insecure_channel(addr) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call, found = ask(iter(asked), timeout=PATIENCE), []
        try:
            for question, answer in zip(asked, call):
                assert (answer.valid_host, answer.original_request) == ("an.example", question)
                found.append(in_words(answer))
        except grpc.RpcError:
            pass
        return found, call.code()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_the_answers_are_those_of_grpc_go(version, serve, grpc_go):
    ours = serve("greeter").addr
    found, code = answers(ours, version, QUESTIONS)
    assert len(found) == len(QUESTIONS)
    assert (found, code) == answers(grpc_go, version, QUESTIONS)
    for question, answer in zip(QUESTIONS, found):
        one = answers(grpc_go, version, [question])
        assert answers(ours, version, [question]) == one, question
    unasked = [symbol("no.Such"), {}, symbol("no.Such")]
    ended = answers(ours, version, unasked)
    assert ended == ([5], grpc.StatusCode.INVALID_ARGUMENT)
    assert ended == answers(grpc_go, version, unasked)


# grpcio


def test_the_pool_of_grpcio(serve):
    with grpc.insecure_channel(serve("route-guide").addr) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert list(database.get_services()) == [*OF_CHASSIS, "routeguide.RouteGuide"]
        pool = DescriptorPool(database)
        for find, name in [
            (pool.FindMessageTypeByName, "no.Such"),
            (pool.FindFileByName, "no.proto"),
            (pool.FindServiceByName, "helloworld.Greeter"),
        ]:
            with pytest.raises(KeyError):
                find(name)
        service = pool.FindServiceByName("routeguide.RouteGuide")
        assert [method.name for method in service.methods] == [
            "GetFeature", "ListFeatures", "RecordRoute", "RouteChat",
        ]
        status = pool.FindEnumTypeByName("grpc.health.v1.HealthCheckResponse.ServingStatus")
        assert status.values_by_name["NOT_SERVING"].number == 2
        delay = pool.FindMessageTypeByName("google.rpc.RetryInfo").fields_by_name["retry_delay"]
        assert delay.message_type.full_name == "google.protobuf.Duration"
        request = pool.FindMessageTypeByName("grpc.reflection.v1.ServerReflectionRequest")
        assert pool.FindAllExtensions(request) == []
        with pytest.raises(KeyError):
            pool.FindExtensionByNumber(request, 100)


# grpcurl


@pytest.mark.parametrize("name, service, method", [
    ("greeter", "helloworld.Greeter", "SayHelloBidiStream"),
    ("route-guide", "routeguide.RouteGuide", "RouteChat"),
])
def test_grpcurl_lists_and_describes(name, service, method, serve):
    addr = serve(name).addr
    assert grpcurl("-plaintext", addr, "list").split() == [*OF_CHASSIS, service]
    assert f"rpc {method} ( stream " in grpcurl("-plaintext", addr, "describe", service)
    assert "rpc List " in grpcurl("-plaintext", addr, "describe", "grpc.health.v1.Health")
    every = grpcurl("-plaintext", addr, "describe")
    assert all(f"{each} is a service" in every for each in [*OF_CHASSIS, service])


REFUSED = {"field": "name", "description": "must not be empty"}


def test_grpcurl_prints_a_refusal_in_words(serve):
    command = ["grpcurl", "-plaintext", "-d", "{}", serve("greeter").addr, "helloworld.Greeter/SayHello"]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert outcome.returncode != 0
    [detail] = [line for line in outcome.stderr.splitlines() if "@type" in line]
    detail = json.loads(detail[detail.index("{"):])
    assert detail == {
        "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [REFUSED],
    }


# buf


def buf(*arguments):
    command = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def test_buf_lists_and_calls(serve):
    url = f"http://{serve('greeter').addr}"
    listed = buf("--list-methods", url)
    assert listed.returncode == 0, listed.stderr
    services = {method.partition("/")[0] for method in listed.stdout.split()}
    assert services == {*OF_CHASSIS, "helloworld.Greeter"}
    method = f"{url}/helloworld.Greeter/SayHello"
    assert json.loads(buf("--data", '{"name": "you"}', method).stdout) == {"message": "Hello you"}
    # It asks for no descriptor of a detail, and prints the bytes whoever the server is.
    refused = json.loads(buf("--data", "{}", method).stderr)
    assert refused["message"] == f"{REFUSED['field']}: {REFUSED['description']}"
    assert [detail["type"] for detail in refused["details"]] == ["google.rpc.BadRequest"]
