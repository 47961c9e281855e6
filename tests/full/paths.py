"""The ways from a client to pods that come and go: by connections, as kube-proxy does it for a Service, and
by calls, as an ALB does it whose targets a controller registers."""

import contextlib
import json
import os
import random
import socket
import socketserver
import subprocess
import threading

from engine import eventually

PORT = 50051
# How long an endpoint has been gone when a controller, or a kube-proxy elsewhere, has heard of it.
LAG = 5


def listens(address):
    with socket.socket() as peer:
        return peer.connect_ex((address, PORT)) == 0


def loopback():
    """An address that nobody else listens on."""
    return "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def service(endpoints, addresses):
    """A Service with these addresses: each new connection goes to any of its endpoints, and stays there."""

    class Connection(socketserver.BaseRequestHandler):
        def handle(self):
            if not (known := endpoints()):
                return
            with contextlib.suppress(OSError), socket.create_connection((random.choice(known), PORT)) as pod:
                for end in (self.request, pod):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=pump, args=[pod, self.request], daemon=True)
                back.start()
                pump(self.request, pod)
                back.join()

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close, request_queue_size = True, False, 128

    with contextlib.ExitStack() as stack:
        for address in addresses:
            listener = stack.enter_context(Listener((address, PORT), Connection))
            threading.Thread(target=listener.serve_forever, args=[0.1], daemon=True).start()
            stack.callback(listener.shutdown)
        yield


def assignment(addresses):
    """What Envoy reads of a cluster's endpoints."""
    at = lambda address: {"socket_address": {"address": address, "port_value": PORT}}
    targets = [{"endpoint": {"address": at(address)}} for address in addresses]
    kind = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
    return {"resources": [{"@type": kind, "cluster_name": "pods", "endpoints": [{"lb_endpoints": targets}]}]}


def configuration(address, targets):
    """Envoy as the overlay for EKS has an ALB: by calls, with its health checks, and nothing tried twice."""
    extension = "type.googleapis.com/envoy.extensions."
    manager = {
        "@type": f"{extension}filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s"}}],
        }]},
        "http_filters": [{
            "name": "router", "typed_config": {"@type": f"{extension}filters.http.router.v3.Router"},
        }],
    }
    listener = {
        "address": {"socket_address": {"address": address, "port_value": PORT}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    cluster = {
        "name": "pods", "type": "EDS", "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": {"path_config_source": {"path": str(targets)}}},
        "health_checks": [{
            "interval": "5s", "no_traffic_interval": "5s", "timeout": "2s",
            "healthy_threshold": 2, "unhealthy_threshold": 2,
            "grpc_health_check": {"service_name": "routeguide.RouteGuide"},
        }],
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": f"{extension}upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    }
    return {
        "node": {"id": "balancer", "cluster": "balancer"},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


@contextlib.contextmanager
def balancer(endpoints, address, folder):
    """A balancer of calls at this address, whose targets follow the endpoints."""
    targets, over = folder / "targets.json", threading.Event()

    def register():
        """Envoy sees a file that takes another's place."""
        known = None
        while True:
            if (now := endpoints()) != known:
                known = now
                (folder / "next.json").write_text(json.dumps(assignment(now)))
                os.replace(folder / "next.json", targets)
            if over.wait(0.1):
                return

    registrar = threading.Thread(target=register)
    registrar.start()
    eventually(targets.exists)
    (folder / "envoy.json").write_text(json.dumps(configuration(address, targets)))
    command = ["envoy", "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    with subprocess.Popen([*command, "-c", folder / "envoy.json"]) as envoy:
        eventually(lambda: listens(address))
        yield
        envoy.terminate()
    over.set()
    registrar.join()
