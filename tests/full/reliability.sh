#!/usr/bin/env bash
# What docs/reliability.md says, measured: a million cases of each property, the table, and a soak of
# SOAK_MINUTES (2). Needs nothing that is not installed; it takes its time, and timing has no place in
# `cargo test`.
set -uo pipefail
cd "$(dirname "$0")/../.."

passed=0 failed=0
check() {
    echo "-- $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

export PROPTEST_CASES=${PROPTEST_CASES:-1000000}
check cargo test --quiet --profile fuzz -p chassis -p route-guide -p tests any_
check cargo run --quiet --release --bin measure
check cargo run --quiet --release --bin measure soak --minutes "${SOAK_MINUTES:-2}"

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
