#!/usr/bin/env bash
# What docs/reliability.md says, measured: a million cases of each property, the table, and a soak of
# SOAK_MINUTES (2). It needs no more than Rust, but time, which has no place in `cargo test`. CI has none for
# plain tonic beside them.
set -uo pipefail
cd "$(dirname "$0")/../.."

passed=0 failed=0
check() {
    echo "-- $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# Without cargo's own counts, which would be added to ours.
properties() {
    PROPTEST_CASES=$1 cargo test --quiet --profile fuzz -p chassis -p route-guide -p tests any_ |
        grep -v '^test result'
    return "${PIPESTATUS[0]}"
}

check properties 1000000
check cargo run --quiet --release --bin measure -- ${CI:+--alone}
check cargo run --quiet --release --bin measure -- ${CI:+--alone} soak --minutes "${SOAK_MINUTES:-2}"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
