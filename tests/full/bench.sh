#!/usr/bin/env bash
# That the bench of docs/performance.md runs, and that all it is answered is right. Its figures take a quiet
# machine and a quarter of an hour, so they are made by hand.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v h2load >/dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends nghttp2-client
fi

if cargo run --quiet ${LONG:+--release} --bin lab -- bench hello-50x20 list record rest --peers limit-hyper --rounds 1 --seconds 0.3; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
