#!/usr/bin/env bash
# The images and the topology of docker/ with a real engine: what is in the images, what they bear, and
# what becomes of calls while containers are restarted, stopped and killed. Installs an engine if there
# is none, and makes local-images for the public images if they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/tools
tests/full/local-images
[ "${LONG:-}" ] || export LTO=thin
set -a
. target/full/images.env
export PATH=$PWD/target/full/venv/bin:$PATH
exec pytest -q -p no:cacheprovider tests/full/docker.py
