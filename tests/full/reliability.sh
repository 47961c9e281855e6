#!/usr/bin/env bash
# What docs/reliability.md says, measured: cases of each property, the table, and a soak. In the long run a million
# cases, plain tonic beside ours, and SOAK_MINUTES (2); else all of it in miniature.
set -uo pipefail
cd "$(dirname "$0")/../.."

passed=0 failed=0
check() {
    echo "-- $*"
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# Without cargo's own counts, which would be added to ours.
properties() {
    PROPTEST_CASES=$1 cargo test --quiet "${@:2}" --workspace any_ |
        grep -v '^test result'
    return "${PIPESTATUS[0]}"
}

if [ "${LONG:-}" ]; then
    check properties 1000000 --profile fuzz
    check cargo run --quiet --release --bin lab measure
    check cargo run --quiet --release --bin lab measure soak --minutes "${SOAK_MINUTES:-2}"
else
    check properties 20000
    check cargo run --quiet --bin lab -- measure --quick --alone
    check cargo run --quiet --bin lab -- measure --quick --alone saturation soak
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
