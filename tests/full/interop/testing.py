"""The interop contract, as grpcio's tools make it of testing.proto."""

import pathlib
import sys

import grpc

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "interop"))
messages, services = grpc.protos_and_services("testing.proto")


def zeros(size):
    return messages.Payload(body=bytes(size))
