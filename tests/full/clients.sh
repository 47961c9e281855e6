#!/usr/bin/env bash
# Clients and servers that we did not write, against our binaries: Python's grpcio, grpcurl and buf, reflection
# beside grpc-go's, and gRPC's interop cases between those of grpcio, of grpc-js and ours; then what is legal
# at full speed, with grpc-go as well, through Envoy and HAProxy, too.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v haproxy >/dev/null; then
    apt-get install -qq -y --no-install-recommends haproxy
    # Debian starts what it installs.
    service haproxy stop || true
fi
tests/full/tools
tests/full/go/build
export NODE_PATH=$PWD/target/full/node_modules PATH=$PWD/target/full/venv/bin:$PATH
exec pytest -q -p no:cacheprovider tests/full/{clients,metrics,reflection,interop,legal}.py
