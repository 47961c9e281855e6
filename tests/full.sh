#!/usr/bin/env bash
# The second tier of tests: what needs more than Rust. Each part is a script in tests/full/ that
# installs what it needs by name, says what it skips, and prints how many checks "passed", "failed"
# and were "skipped". In CI nothing may be skipped.
#
#   tests/full.sh                 every part
#   tests/full.sh clients         one part
#   tests/full.sh --long [PART…]  before a release: the programs that measure as the documents say, with release
#                                 builds, and the checks that judge a time; without it they run in a short form
set -uo pipefail
cd "$(dirname "$0")/.."

export LONG=
if [ "${1:-}" = --long ]; then LONG=--long && shift; fi
if [ $# -eq 0 ]; then
    for script in tests/full/*.sh; do set -- "$@" "$(basename "$script" .sh)"; done
fi
log=$(mktemp) of_part=$(mktemp)
trap 'rm -f "$log" "$of_part"' EXIT
# A line that counts begins with a count.
counts() { grep -E '^[0-9]+ (passed|failed|skipped)' "$1"; }
count() { counts "$log" | grep -oE "[0-9]+ $1\b" | awk '{ sum += $1 } END { print sum + 0 }'; }

broken=0
for part in "$@"; do
    script=tests/full/$part.sh
    if [ ! -x "$script" ]; then
        echo "tests/full.sh: no part named '$part'; there are: $(basename -s .sh tests/full/*.sh | xargs)" >&2
        exit 2
    fi
    echo "== $part"
    began=$SECONDS
    "$script" 2>&1 | tee "$of_part"
    code=${PIPESTATUS[0]}
    cat "$of_part" >> "$log"
    # A part that fails without counting a failed check has broken down.
    if [ "$code" -ne 0 ] && ! counts "$of_part" | grep -qE '[1-9][0-9]* failed'; then
        echo "$part broke down with exit code $code"
        broken=$((broken + 1))
    fi
    echo "== part $part took $((SECONDS - began)) s"
done

passed=$(count passed) failed=$(($(count failed) + broken)) skipped=$(count skipped)
if [ "${CI:-}" = true ]; then failed=$((failed + skipped)); fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
