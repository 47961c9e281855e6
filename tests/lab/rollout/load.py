"""The load of `rollout` as Python's grpcio makes it: calls of all four kinds, each as soon as the one
before it is over, until standard input ends and there were as many calls as are wanted. A line there
says whether all servers are up: "steady" or "restarting". Prints one JSON line with what became of the
calls. Usage: load.py ADDR,ADDR,… CALLS [--balanced]: the addresses are a balancer's, of whose health there
is nothing to ask."""

import asyncio
import collections
import itertools
import json
import pathlib
import random
import sys
import time

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "proto"))
messages, services = grpc.protos_and_services("route_guide.proto")

# As in load.rs.
BRISK, SLOW = 4, 4
PAUSE = 0.02
AFTER_A_FAILURE = 0.01
DEADLINE = 5
# Where nobody else leaves notes, for the servers may share theirs with those of another load.
PLACE = random.randrange(1_000_000_000)

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "routeguide.RouteGuide"},
}


def feature(entry):
    return messages.Feature(name=entry["name"], location=messages.Point(**entry["location"]))


FEATURES = [feature(entry) for entry in json.loads((ROOT / "data/route_guide_db.json").read_text())]


def place(nth):
    return FEATURES[nth % len(FEATURES)].location


def is_between(value, a, b):
    return min(a, b) <= value <= max(a, b)


def is_inside(location, area):
    return is_between(location.latitude, area.lo.latitude, area.hi.latitude) and is_between(
        location.longitude, area.lo.longitude, area.hi.longitude
    )


def judge(due, found):
    """None if this is the answer that was due, else the name of what is wrong with it."""
    if found == due:
        return None
    if not all(reply in due for reply in found):
        return "wrong"
    if any(found.count(reply) > due.count(reply) for reply in found):
        return "duplicated"
    rest = iter(due)
    return "truncated" if all(reply in rest for reply in found) else "wrong"


def judge_count(due, found):
    return None if found == due else "truncated" if found < due else "duplicated"


async def paced(requests, pause):
    for request in requests:
        if pause:
            await asyncio.sleep(pause)
        yield request


async def get_feature(stub, nth, *_):
    found = await stub.GetFeature(place(nth), timeout=DEADLINE)
    return judge([FEATURES[nth % len(FEATURES)]], [found])


async def list_features(stub, nth, *_):
    area = messages.Rectangle(lo=place(nth), hi=place(nth * 7 + 31))
    found = [feature async for feature in stub.ListFeatures(area, timeout=DEADLINE)]
    return judge([feature for feature in FEATURES if is_inside(feature.location, area)], found)


async def record_route(stub, nth, _, pause):
    points = [place(point) for point in range(nth % 10 + 1)]
    summary = await stub.RecordRoute(paced(points, pause), timeout=DEADLINE)
    return judge_count(len(points), summary.point_count)


async def route_chat(stub, nth, number, pause):
    location = messages.Point(latitude=nth, longitude=PLACE + number)
    count = 2 + nth % 5
    notes = [messages.RouteNote(location=location, message=f"note {i}") for i in range(count)]
    due = [note for earlier in range(count) for note in notes[:earlier]]
    found = [note async for note in stub.RouteChat(paced(notes, pause), timeout=DEADLINE)]
    return judge(due, found)


KINDS = [get_feature, list_features, record_route, route_chat]


class Load:
    def __init__(self, stub, wanted):
        self.stub = stub
        self.wanted = wanted
        self.stage = "steady"
        self.counts = collections.Counter()
        self.failures = collections.Counter()
        self.times = {"steady": [], "restarting": []}

    async def follow(self, stdin):
        async for line in stdin:
            self.stage = line.decode().strip()
        self.stage = "over"

    async def work(self, number):
        pause = 0 if number < BRISK else PAUSE
        for nth in itertools.count():
            before = self.stage
            if before == "over" and self.counts["calls"] >= self.wanted:
                return
            began = time.monotonic()
            ok = await self.call(nth, number, pause)
            if nth % 4 == 0:
                took = round((time.monotonic() - began) * 1e6)
                self.times["restarting" if before == "restarting" else "steady"].append(took)
            if not ok:
                await asyncio.sleep(AFTER_A_FAILURE)

    async def call(self, nth, number, pause):
        """Whether it ended in OK."""
        self.counts["calls"] += 1
        try:
            fault = await KINDS[nth % 4](self.stub, nth, number, pause)
        except grpc.RpcError as error:
            self.failures[f"{error.code().name}: {error.details()}"] += 1
            return False
        if fault:
            self.counts[fault] += 1
        return True


async def main():
    addrs, wanted = sys.argv[1], int(sys.argv[2])
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin
    )
    if "--balanced" in sys.argv:
        # The health of a server that goes would be taken for that of all behind its address.
        del SERVICE_CONFIG["healthCheckConfig"]
    options = [
        # Else it would be the list, whose commas no authority may have.
        ("grpc.default_authority", "route-guide"),
        ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
        # A second by default, in which the next two servers here would be away.
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    async with grpc.aio.insecure_channel(f"ipv4:{addrs}", options) as channel:
        load = Load(services.RouteGuideStub(channel), wanted)
        await asyncio.gather(load.follow(stdin), *map(load.work, range(BRISK + SLOW)))
    print(json.dumps({**load.counts, **load.times, "failures": load.failures}))


asyncio.run(main())
