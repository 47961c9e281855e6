#!/usr/bin/env bash
# The targets of tests/fuzz under libFuzzer, as docs/reliability.md says: FUZZ_SECONDS each, 120 in the long run and
# else 5. Needs a nightly compiler and cargo-fuzz, and builds the chassis and all beneath it with sanitizers, for some
# minutes. CI counts nothing of this: there, `cargo test` has replayed the kept inputs.
set -uo pipefail
cd "$(dirname "$0")/../.."

targets=$(basename -s .rs tests/fuzz/targets/*.rs | xargs)
echo "cargo test -p chassis fuzzing:: replays the kept inputs of: $targets"
if [ "${CI:-}" = true ] && [ -z "${LONG:-}" ]; then
    echo "0 passed, 0 failed: no fuzzer runs in the short form in CI"
    exit 0
fi

skip() {
    echo "$1: not run: $targets"
    echo "0 passed, 0 failed, $(wc -w <<< "$targets") skipped"
    exit 0
}
install=(install cargo-fuzz --version '0.13.*' --locked)
cargo +nightly --version > /dev/null 2>&1 || skip "no nightly compiler (rustup toolchain install nightly)"
if ! cargo fuzz --version > /dev/null 2>&1; then
    [ "${LONG:-}" ] || skip "no cargo-fuzz (cargo ${install[*]})"
    cargo --quiet "${install[@]}" || exit 1
fi

# What is fuzzed is what is released: the same versions of all that both are made of.
cp Cargo.lock tests/fuzz/Cargo.lock
fuzz() { cargo +nightly fuzz "$@"; }
where=(--fuzz-dir tests/fuzz --target-dir target/fuzz)
fuzz build "${where[@]}" || exit 1

# Where there is one, a folder in memory: `auth` writes files some thousand times a second.
if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
seconds=${FUZZ_SECONDS:-$([ "${LONG:-}" ] && echo 120 || echo 5)}
passed=0 failed=0
for target in $targets; do
    echo "-- $target, $seconds s"
    mkdir "$found/$target"
    # New inputs go to the first folder. An input may take seconds of a busy machine, and no more.
    if fuzz run "${where[@]}" "$target" "$found/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=1024 -entropic_scale_per_exec_time=1 -timeout=20 \
        -rss_limit_mb=1024 -print_final_stats=1 > "$found/log" 2>&1; then
        passed=$((passed + 1))
        grep -E '^(Done|stat::(number_of_executed_units|peak_rss_mb))' "$found/log"
    else
        failed=$((failed + 1))
        tail -60 "$found/log"
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
