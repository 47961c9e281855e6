"""grpcio's examples of helloworld and routeguide, with ten threads as they have."""

import argparse
import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import helloworld_pb2
import helloworld_pb2_grpc
import route_guide_pb2
import route_guide_pb2_grpc


class Greeter(helloworld_pb2_grpc.GreeterServicer):
    def SayHello(self, request, context):
        return helloworld_pb2.HelloReply(message=f"Hello {request.name}")


class RouteGuide(route_guide_pb2_grpc.RouteGuideServicer):
    def __init__(self, path):
        with open(path) as file:
            entries = json.load(file)
        self.features = [
            route_guide_pb2.Feature(name=entry["name"], location=route_guide_pb2.Point(**entry["location"]))
            for entry in entries
        ]
        # A scan for each point, as in the example, would measure little else.
        self.places = {key(feature.location) for feature in self.features}

    def ListFeatures(self, request, context):
        south, north = sorted((request.lo.latitude, request.hi.latitude))
        west, east = sorted((request.lo.longitude, request.hi.longitude))
        for feature in self.features:
            place = feature.location
            if south <= place.latitude <= north and west <= place.longitude <= east:
                yield feature

    def RecordRoute(self, request_iterator, context):
        began = time.monotonic()
        points = found = 0
        metres = 0.0
        last = None
        for point in request_iterator:
            points += 1
            found += key(point) in self.places
            if last is not None:
                metres += distance(last, point)
            last = point
        return route_guide_pb2.RouteSummary(
            point_count=points,
            feature_count=found,
            distance=int(metres),
            elapsed_time=int(time.monotonic() - began),
        )


def key(point):
    return point.latitude, point.longitude


def distance(a, b):
    """In metres, on great circles."""
    a_lat, a_lon, b_lat, b_lon = (math.radians(degrees / 1e7) for degrees in (*key(a), *key(b)))
    half = math.sin((b_lat - a_lat) / 2) ** 2
    half += math.cos(a_lat) * math.cos(b_lat) * math.sin((b_lon - a_lon) / 2) ** 2
    return 6371000 * 2 * math.atan2(math.sqrt(half), math.sqrt(1 - half))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--features-file", required=True)
    flags = parser.parse_args()
    server = grpc.server(ThreadPoolExecutor(10))
    helloworld_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
    route_guide_pb2_grpc.add_RouteGuideServicer_to_server(RouteGuide(flags.features_file), server)
    port = server.add_insecure_port(flags.listen)
    server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()
