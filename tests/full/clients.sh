#!/usr/bin/env bash
# Clients and servers that we did not write, against our binaries: Python's grpcio, grpcurl, and
# gRPC's interop cases between those of grpcio, of grpc-js and ours.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/tools
export NODE_PATH=$PWD/target/full/node_modules PATH=$PWD/target/full/venv/bin:$PATH
exec pytest -q -p no:cacheprovider tests/full/clients.py tests/full/interop.py
