"""The interop service on Python's grpcio. Prints where it listens, as our servers do."""

import argparse
import json
import signal
from concurrent.futures import ThreadPoolExecutor

import grpc
from testing import messages, services, zeros


class TestService(services.TestServiceServicer):
    def EmptyCall(self, request, context):
        return messages.Empty()

    def UnaryCall(self, request, context):
        pack_from_now_on(context, [request.response_compressed])
        echo_metadata(context)
        end_as_asked(request.response_status, context)
        pack_next(context, request.response_compressed)
        return messages.SimpleResponse(payload=zeros(request.response_size))

    def StreamingOutputCall(self, request, context):
        asked = request.response_parameters
        pack_from_now_on(context, [parameters.compressed for parameters in asked])
        for parameters in asked:
            pack_next(context, parameters.compressed)
            yield messages.StreamingOutputCallResponse(payload=zeros(parameters.size))

    def StreamingInputCall(self, requests, context):
        size = sum(len(request.payload.body) for request in requests)
        return messages.StreamingInputCallResponse(aggregated_payload_size=size)

    def FullDuplexCall(self, requests, context):
        echo_metadata(context)
        for request in requests:
            end_as_asked(request.response_status, context)
            for parameters in request.response_parameters:
                yield messages.StreamingOutputCallResponse(payload=zeros(parameters.size))


def echo_metadata(context):
    sent = dict(context.invocation_metadata())
    pairs = lambda name: [(name, sent[name])] if name in sent else []
    context.send_initial_metadata(pairs("x-grpc-test-echo-initial"))
    context.set_trailing_metadata(pairs("x-grpc-test-echo-trailing-bin"))


def end_as_asked(status, context):
    if status.code:
        [code] = [code for code in grpc.StatusCode if code.value[0] == status.code]
        context.abort(code, status.message)


def pack_from_now_on(context, asked):
    if any(said.value for said in asked):
        context.set_compression(grpc.Compression.Gzip)


def pack_next(context, said):
    if not said.value:
        context.disable_next_message_compression()


def main():
    parser = argparse.ArgumentParser()
    for flag in ["--tls-cert", "--tls-key", "--tls-client-ca"]:
        parser.add_argument(flag)
    flags = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    services.add_TestServiceServicer_to_server(TestService(), server)
    if flags.tls_cert:
        key, cert = (open(file, "rb").read() for file in [flags.tls_key, flags.tls_cert])
        ca = open(flags.tls_client_ca, "rb").read() if flags.tls_client_ca else None
        credentials = grpc.ssl_server_credentials([(key, cert)], ca, ca is not None)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"grpc": f"127.0.0.1:{port}"}), flush=True)
    signal.sigwait([signal.SIGTERM])


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
main()
