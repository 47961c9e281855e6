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

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --quiet --workspace --test e2e notes:: 2>&1 | tee "$log" | grep -v '^test result'
code=${PIPESTATUS[0]}
# Cargo's own counts become ours, so that nobody adds both.
count() { grep '^test result' "$log" | grep -oE "[0-9]+ $1" | awk '{ sum += $1 } END { print sum + 0 }'; }
passed=$(count passed) failed=$(count failed)
# Such as when it does not compile.
if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi

rows=(notes-history notes-outage notes-memory notes-slow-reader notes-speed)
if cargo run --quiet --release --bin measure -- ${CI:+--alone} "${rows[@]}"; then
    passed=$((passed + 1))
else
    failed=$((failed + 1))
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
