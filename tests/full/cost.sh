#!/usr/bin/env bash
# That no call of the release costs more instructions or allocations than it did; tests/lab/bench/cost.py says more.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null || ! command -v h2load >/dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends nghttp2-client valgrind
fi
python3 tests/lab/bench/cost.py $([ "${LONG:-}" ] || echo --quick)
