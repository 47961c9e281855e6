"""The engine as the parts use it: commands, and images that are built as docker/Dockerfile says."""

import os
import subprocess
import tempfile
import time
from pathlib import Path

from conftest import PATIENCE, ROOT

BUILD_PATIENCE = 3600


def run(*command, timeout=PATIENCE, **options):
    """What came of a command, whatever it was."""
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, timeout=timeout, cwd=ROOT, **options)


def output(*command, **options):
    outcome = run(*command, text=True, **options)
    assert outcome.returncode == 0, "\n".join(outcome.stderr.splitlines()[-40:])
    return outcome.stdout.strip()


def build(name, *arguments):
    """Builds an image as docker/Dockerfile says, and returns its id."""
    # Docker takes their values from the environment.
    given = [argument for name in ("BUILDER", "LTO") if name in os.environ for argument in ("--build-arg", name)]
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image")
        # Not --quiet, which says that a command failed and not why.
        command = ["docker", "build", "--iidfile", image, "--file", "docker/Dockerfile", "--target", name]
        output(*command, *given, *arguments, ".", timeout=BUILD_PATIENCE)
        return image.read_text()


def eventually(what, patience=PATIENCE):
    """Waits until this is true of what only the engine or a balancer knows."""
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def inspect(container, field):
    return output("docker", "inspect", "--format", f"{{{{{field}}}}}", container)


def build_as(tag, name):
    """Builds an image as push-ecr.sh would, under this name."""
    commit = output("git", "log", "-1", "--format=%ct")
    build(name, "--tag", tag, "--build-arg", f"SOURCE_DATE_EPOCH={commit}")
