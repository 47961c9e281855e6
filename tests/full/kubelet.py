"""The life of a pod as the kubelet leads it, with a container of the local engine: when it is probed and what
follows from that, how it is ended, and that it is started again. The waits after a second restart, the
eviction of pods and hooks other than a sleep before the end are not here."""

import math
import threading
import time

from engine import inspect, output
from pods import Manifest

# What the kubelet leaves a container after its hook has taken all the time there was.
LEAST_GRACE = 2


class Container:
    """One start of a pod's container."""

    def __init__(self, pod):
        flags, args = pod.manifest.command(pod.facts, pod.secrets, pod.folder)
        self.address = pod.address
        place = [f"--network={pod.network}", f"--ip={pod.address}", f"--network-alias={pod.manifest.name}"]
        image = pod.images.get(pod.manifest.image, pod.manifest.image)
        self.id = output("docker", "run", "--detach", "--no-healthcheck", *place, *flags, image, *args)
        self.began = time.monotonic()
        # started: it passed its startup probe. ending: it has to go. dead: it is gone.
        self.started, self.ending, self.dead = threading.Event(), threading.Event(), threading.Event()
        self.ready = False
        self.answers = {kind: [] for kind in pod.manifest.probes}
        if "startup" not in pod.manifest.probes:
            self.started.set()
        for kind, probe in pod.manifest.probes.items():
            threading.Thread(target=self.probe, args=[kind, probe, pod.told], daemon=True).start()
        threading.Thread(target=self.watch, args=[pod.told], daemon=True).start()

    def watch(self, tell):
        """Waits until it has ended, for whatever reason."""
        output("docker", "wait", self.id, timeout=None)
        self.dead.set()
        self.conclude("readiness", False, tell)
        self.ending.set()

    def probe(self, kind, probe, tell):
        """Asks again and again, until the answers no longer matter."""
        if kind != "startup":
            self.started.wait()
        self.dead.wait(max(0, self.began + probe.delay - time.monotonic()))
        answers, same = self.answers[kind], 0
        # What ends is no longer asked whether it lives, but whether it is ready.
        while not (self.dead if kind == "readiness" else self.ending).is_set():
            asked = time.monotonic()
            answer = probe.ask(self)
            same = same + 1 if answers and answers[-1] == answer else 1
            answers.append(answer)
            if same >= probe.thresholds[answer] and not self.dead.is_set():
                self.conclude(kind, answer, tell)
                if kind == "startup" and answer:
                    return
            self.dead.wait(max(0, asked + probe.period - time.monotonic()))

    def conclude(self, kind, well, tell):
        if kind == "readiness":
            if self.ready != well:
                tell("ready" if well else "unready")
            self.ready = well
        elif kind == "startup" and well:
            self.started.set()
        elif not well:
            tell(f"{kind} failed")
            self.ending.set()

    def end(self, hook, grace):
        """The hook, then SIGTERM, and SIGKILL when the grace that counts from now is over."""
        began = time.monotonic()
        self.dead.wait(min(hook, grace))
        left = max(LEAST_GRACE, grace - (time.monotonic() - began))
        output("docker", "stop", "--time", math.ceil(left), self.id, timeout=None)
        self.dead.wait()
        self.started.set()
        code = int(inspect(self.id, ".State.ExitCode"))
        output("docker", "rm", self.id)
        return code


class Pod:
    """Starts its container, and starts it again until the pod is deleted."""

    def __init__(self, name, template, cluster):
        self.name, self.address = cluster.place(name)
        self.template, self.manifest = template, Manifest(template)
        self.grace = self.manifest.grace
        self.network, self.images, self.secrets = cluster.network, cluster.images, cluster.secrets
        self.folder = cluster.folder / self.name
        self.folder.mkdir()
        self.facts = {
            "metadata.name": self.name, "metadata.labels": self.manifest.labels,
            "spec.nodeName": "node", "status.podIP": self.address,
        }
        self.events, self.exits = [], []
        self.deleted, self.lock = False, threading.Lock()
        self.container = Container(self)
        self.life = threading.Thread(target=self.live, daemon=True)
        self.life.start()

    def told(self, what):
        self.events.append((time.monotonic(), what))

    def when(self, what):
        """When this was last told, if it was."""
        return next((at for at, told in reversed(self.events) if told == what), None)

    @property
    def ready(self):
        return self.container.ready

    def live(self):
        while True:
            self.container.ending.wait()
            self.exits.append(self.container.end(self.manifest.hook, self.grace))
            self.told("ended")
            with self.lock:
                if self.deleted:
                    return
                self.container = Container(self)

    def delete(self, grace=None):
        """Returns at once; the pod ends by and by, with another grace than its own if one is given."""
        with self.lock:
            self.grace = self.grace if grace is None else grace
            self.told("deleted")
            self.deleted = True
            self.container.ending.set()
