"""The interop cases as Python's grpcio plays them: a line for each, `CASE ok`, `CASE failed: why`, or
`CASE n/a: why` where grpcio has no way to say or see what the case is about."""

import argparse
import queue
import time

import grpc
from testing import messages, services, zeros

PATIENCE = 60
CONCURRENCY = 1000
ITERATIONS = 100
LONGEST_CALL = 1.0
REQUESTS = [27182, 8, 1828, 45904]
RESPONSES = [31415, 9, 2653, 58979]
METADATA = [
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"),
]
HIDDEN = "grpcio does not tell whether a message came packed"


class NotApplicable(Exception):
    """What the library cannot do, after what it can do of a case has gone well."""


def large_request(**more):
    return messages.SimpleRequest(response_size=314159, payload=zeros(271828), **more)


def said(value):
    return messages.BoolValue(value=value)


def asking_for(*sizes):
    return [messages.ResponseParameters(size=size) for size in sizes]


def ping(size, answer):
    request = messages.StreamingOutputCallRequest
    return request(payload=zeros(size), response_parameters=asking_for(answer))


def holds(response, size):
    assert response.payload == zeros(size), f"{len(response.payload.body)} instead of {size} bytes"


def ended(call, code):
    """The status of a call that must end with this code."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        return error
    raise AssertionError(f"the call went well, and {code} was expected")


def empty_unary(stub):
    assert stub.EmptyCall(messages.Empty(), timeout=PATIENCE) == messages.Empty()


def large_unary(stub):
    holds(stub.UnaryCall(large_request(), timeout=PATIENCE), 314159)


def client_streaming(stub):
    requests = (messages.StreamingInputCallRequest(payload=zeros(size)) for size in REQUESTS)
    response = stub.StreamingInputCall(requests, timeout=PATIENCE)
    assert response.aggregated_payload_size == 74922, response


def server_streaming(stub):
    request = messages.StreamingOutputCallRequest(response_parameters=asking_for(*RESPONSES))
    responses = list(stub.StreamingOutputCall(request, timeout=PATIENCE))
    for response, size in zip(responses, RESPONSES, strict=True):
        holds(response, size)


def ping_pong(stub):
    pings = queue.SimpleQueue()
    pongs = stub.FullDuplexCall(iter(pings.get, None), timeout=PATIENCE)
    for size, answer in zip(REQUESTS, RESPONSES):
        pings.put(ping(size, answer))
        holds(next(pongs), answer)
    pings.put(None)
    assert list(pongs) == []


def empty_stream(stub):
    assert list(stub.FullDuplexCall(iter([]), timeout=PATIENCE)) == []


def ends_with(message, *calls):
    for call in calls:
        error = ended(call, grpc.StatusCode.UNKNOWN)
        assert error.details() == message, repr(error.details())


def status_code_and_message(stub):
    status = messages.EchoStatus(code=2, message="test status message")
    unary = messages.SimpleRequest(response_status=status)
    stream = messages.StreamingOutputCallRequest(response_status=status)
    ends_with(
        status.message,
        lambda: stub.UnaryCall(unary, timeout=PATIENCE),
        lambda: list(stub.FullDuplexCall(iter([stream]), timeout=PATIENCE)),
    )


def special_status_message(stub):
    message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
    status = messages.EchoStatus(code=2, message=message)
    request = messages.SimpleRequest(response_status=status)
    ends_with(message, lambda: stub.UnaryCall(request, timeout=PATIENCE))


def custom_metadata(stub):
    response, unary = stub.UnaryCall.with_call(
        large_request(), metadata=METADATA, timeout=PATIENCE
    )
    holds(response, 314159)
    pings = iter([ping(271828, 314159)])
    stream = stub.FullDuplexCall(pings, metadata=METADATA, timeout=PATIENCE)
    [pong] = stream
    holds(pong, 314159)
    for call in [unary, stream]:
        assert METADATA[0] in [tuple(pair) for pair in call.initial_metadata()]
        assert METADATA[1] in [tuple(pair) for pair in call.trailing_metadata()]


def unimplemented_method(stub):
    call = lambda: stub.UnimplementedCall(messages.Empty(), timeout=PATIENCE)
    ended(call, grpc.StatusCode.UNIMPLEMENTED)


def unimplemented_service(stub):
    stub = services.UnimplementedServiceStub(stub.channel)
    call = lambda: stub.UnimplementedCall(messages.Empty(), timeout=PATIENCE)
    ended(call, grpc.StatusCode.UNIMPLEMENTED)


def client_compressed_unary(stub):
    lie = large_request(expect_compressed=said(True))
    ended(lambda: stub.UnaryCall(lie, timeout=PATIENCE), grpc.StatusCode.INVALID_ARGUMENT)
    for packed, compression in [(True, grpc.Compression.Gzip), (False, None)]:
        request = large_request(expect_compressed=said(packed))
        response = stub.UnaryCall(request, compression=compression, timeout=PATIENCE)
        holds(response, 314159)


def server_compressed_unary(stub):
    for packed in [True, False]:
        request = large_request(response_compressed=said(packed))
        holds(stub.UnaryCall(request, timeout=PATIENCE), 314159)
    raise NotApplicable(HIDDEN)


def client_compressed_streaming(stub):
    packed = messages.StreamingInputCallRequest(payload=zeros(27182), expect_compressed=said(True))
    lie = lambda: stub.StreamingInputCall(iter([packed]), timeout=PATIENCE)
    ended(lie, grpc.StatusCode.INVALID_ARGUMENT)
    response = stub.StreamingInputCall(
        iter([packed, packed]), compression=grpc.Compression.Gzip, timeout=PATIENCE
    )
    assert response.aggregated_payload_size == 2 * 27182, response
    raise NotApplicable("grpcio's clients pack all messages of a stream or none")


def server_compressed_streaming(stub):
    asked = [(True, 31415), (False, 92653)]
    parameters = [
        messages.ResponseParameters(size=size, compressed=said(packed)) for packed, size in asked
    ]
    request = messages.StreamingOutputCallRequest(response_parameters=parameters)
    responses = list(stub.StreamingOutputCall(request, timeout=PATIENCE))
    for response, (_, size) in zip(responses, asked, strict=True):
        holds(response, size)
    raise NotApplicable(HIDDEN)


def cancel_after_begin(stub):
    requests = queue.SimpleQueue()
    call = stub.StreamingInputCall.future(iter(requests.get, None), timeout=PATIENCE)
    call.cancel()
    requests.put(None)
    assert call.code() == grpc.StatusCode.CANCELLED, call.code()


def cancel_after_first_response(stub):
    pings = queue.SimpleQueue()
    pings.put(ping(27182, 31415))
    pongs = stub.FullDuplexCall(iter(pings.get, None), timeout=PATIENCE)
    holds(next(pongs), 31415)
    pongs.cancel()
    pings.put(None)
    ended(lambda: next(pongs), grpc.StatusCode.CANCELLED)


def timeout_on_sleeping_server(stub):
    pings = queue.SimpleQueue()
    pings.put(messages.StreamingOutputCallRequest(payload=zeros(27182)))
    pongs = stub.FullDuplexCall(iter(pings.get, None), timeout=0.001)
    ended(lambda: next(pongs), grpc.StatusCode.DEADLINE_EXCEEDED)
    pings.put(None)


def concurrent_large_unary(stub):
    request = large_request()
    calls = [stub.UnaryCall.future(request, timeout=PATIENCE) for _ in range(CONCURRENCY)]
    for call in calls:
        holds(call.result(), 314159)


def soak(call):
    for _ in range(ITERATIONS):
        begun = time.monotonic()
        call()
        took = time.monotonic() - begun
        assert took <= LONGEST_CALL, f"a call took {took:.3f} s"


def rpc_soak(stub):
    soak(lambda: large_unary(stub))


def channel_soak(stub):
    def call():
        with stub.connect() as channel:
            large_unary(services.TestServiceStub(channel))

    soak(call)


CASES = [
    empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream,
    status_code_and_message, special_status_message, custom_metadata, unimplemented_method,
    unimplemented_service, client_compressed_unary, server_compressed_unary,
    client_compressed_streaming, server_compressed_streaming, cancel_after_begin,
    cancel_after_first_response, timeout_on_sleeping_server, concurrent_large_unary, rpc_soak,
    channel_soak,
]


def connect(arguments):
    scheme, _, target = arguments.addr.partition("://")
    # Without it, channels to one address share their connections.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if scheme == "http":
        return grpc.insecure_channel(target, options)
    files = [arguments.cacert, arguments.key, arguments.cert]
    pems = [open(file, "rb").read() if file else None for file in files]
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(*pems), options)


def main():
    parser = argparse.ArgumentParser()
    for flag in ["--addr", "--cacert", "--cert", "--key"]:
        parser.add_argument(flag)
    arguments = parser.parse_args()
    for case in CASES:
        with connect(arguments) as channel:
            stub = services.TestServiceStub(channel)
            stub.channel, stub.connect = channel, lambda: connect(arguments)
            try:
                case(stub)
                outcome = "ok"
            except NotApplicable as why:
                outcome = f"n/a: {why}"
            except (AssertionError, grpc.RpcError, StopIteration) as error:
                outcome = f"failed: {error!r}"
        print(case.__name__, outcome, flush=True)


main()
