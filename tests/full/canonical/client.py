"""Sends and prints what Python's public RouteGuide client does. Only its pauses are a tenth."""

import argparse
import json
import pathlib
import random
import sys
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "proto"))
messages, services = grpc.protos_and_services("route_guide.proto")


def at(location):
    return f"latitude: {location.latitude}, longitude: {location.longitude}"


def get_feature(stub):
    for latitude, longitude in [(409146138, -746188906), (0, 0)]:
        feature = stub.GetFeature(messages.Point(latitude=latitude, longitude=longitude))
        found = f"Feature called {feature.name!r}" if feature.name else "Found no feature"
        print(f"{found} at {at(feature.location)}")


def list_features(stub):
    print("Looking for features between 40, -75 and 42, -73")
    lo = messages.Point(latitude=400000000, longitude=-750000000)
    hi = messages.Point(latitude=420000000, longitude=-730000000)
    for feature in stub.ListFeatures(messages.Rectangle(lo=lo, hi=hi)):
        print(f"Feature called {feature.name!r} at {at(feature.location)}")


def route():
    database = json.loads((ROOT / "data/route_guide_db.json").read_text())
    for feature in random.choices(database, k=10):
        point = messages.Point(**feature["location"])
        print(f"Visiting point {at(point)}")
        yield point
        time.sleep(random.uniform(0.05, 0.15))


def record_route(stub):
    summary = stub.RecordRoute(route())
    print(f"Finished trip with {summary.point_count} points ")
    print(f"Passed {summary.feature_count} features ")
    print(f"Travelled {summary.distance} meters ")
    print(f"It took {summary.elapsed_time} seconds ")


def say(line):
    # The chat is printed from two threads, and `print` writes a line and its end apart.
    sys.stdout.write(line + "\n")


def notes():
    places = {"First": (0, 0), "Second": (0, 1), "Third": (1, 0), "Fourth": (0, 0), "Fifth": (1, 0)}
    for number, (latitude, longitude) in places.items():
        location = messages.Point(latitude=latitude, longitude=longitude)
        say(f"Sending {number} message at {at(location)}")
        yield messages.RouteNote(message=f"{number} message", location=location)


def route_chat(stub):
    for note in stub.RouteChat(notes()):
        say(f"Received message {note.message} at {at(note.location)}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("addr", nargs="?", default="localhost:50051", help="HOST:PORT")
    arguments.add_argument("--cacert", type=pathlib.Path, help="speak TLS, and trust this authority")
    given = arguments.parse_args()
    if given.cacert:
        credentials = grpc.ssl_channel_credentials(given.cacert.read_bytes())
        channel = grpc.secure_channel(given.addr, credentials)
    else:
        channel = grpc.insecure_channel(given.addr)
    with channel:
        stub = services.RouteGuideStub(channel)
        parts = {"GetFeature": get_feature, "ListFeatures": list_features}
        parts |= {"RecordRoute": record_route, "RouteChat": route_chat}
        for name, part in parts.items():
            print(f"-------------- {name} --------------")
            part(stub)


if __name__ == "__main__":
    main()
