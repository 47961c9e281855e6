"""The kubelet's probes of a container."""

import inspect
import socket
import subprocess
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kustomize import read


def ask_grpc(container, timeout, port, service=""):
    # The kubelet connects anew each time, and knows no TLS.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{container.address}:{port}", options) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def connect(container, timeout, port):
    try:
        with socket.create_connection((container.address, port), timeout):
            return True
    except OSError:
        return False


def get(container, timeout, port, path="/"):
    try:
        with urllib.request.urlopen(f"http://{container.address}:{port}{path}", timeout=timeout):
            return True
    except OSError:
        return False


def execute(container, timeout, command):
    command = ["docker", "exec", container.id, *command]
    try:
        return subprocess.run(command, capture_output=True, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired:
        return False


HANDLERS = {"grpc": ask_grpc, "tcpSocket": connect, "httpGet": get, "exec": execute}


class Probe:
    """A probe of a manifest, with Kubernetes' defaults."""

    def __init__(self, fields, ports):
        with read(fields) as it:
            self.delay = it.pop("initialDelaySeconds", 0)
            self.period = it.pop("periodSeconds", 10)
            self.timeout = it.pop("timeoutSeconds", 1)
            # How many answers in a row mean that it is so.
            self.thresholds = {True: it.pop("successThreshold", 1), False: it.pop("failureThreshold", 3)}
            for kind in HANDLERS.keys() & it.keys():
                self.handler, self.how = HANDLERS[kind], it.pop(kind)
        if "port" in self.how:
            self.how = self.how | {"port": ports.get(self.how["port"], self.how["port"])}
        # Raises unless the handler knows every field.
        inspect.signature(self.handler).bind(None, self.timeout, **self.how)

    def ask(self, container):
        """Whether all is well."""
        return self.handler(container, self.timeout, **self.how)
