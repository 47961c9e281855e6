#!/usr/bin/env bash
# Notes on Redis: the tests that `cargo test` skips where there is no redis-server, and what
# docs/notes.md says, measured.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v redis-server >/dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends redis-server
    # Debian starts what it installs.
    service redis-server stop || true
fi

tests/full/tests-of notes::
tested=$?

# What a run is that is not long: the same, in miniature, of debug builds.
rows=(notes-history notes-outage notes-memory notes-slow-reader notes-speed)
if cargo run --quiet ${LONG:+--release} --bin lab -- measure $([ "${LONG:-}" ] || echo --quick --alone) "${rows[@]}"; then
    echo "1 passed, 0 failed"
    exit $tested
fi
echo "0 passed, 1 failed"
exit 1
