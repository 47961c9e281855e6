#!/usr/bin/env bash
# Clients that we did not write, against the release binaries: Python's grpcio and grpcurl.
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 -m venv --clear target/full/clients 2>/dev/null || {
    # Debian keeps venv in a package of its own.
    apt-get install -qq -y python3-venv
    python3 -m venv --clear target/full/clients
}
target/full/clients/bin/pip install --quiet --requirement tests/full/requirements.txt
cargo build --quiet --release -p greeter -p route-guide
PATH=$PWD/target/full/clients/bin:$PATH exec pytest -q -p no:cacheprovider tests/full/clients.py
