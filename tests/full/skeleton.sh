#!/usr/bin/env bash
# That the chassis, the channel and their tests need nothing of the samples: in a copy without RouteGuide and
# Greeter, everything that is left builds, and in a long run its tests pass. Which folders are the samples' is in
# README.md, "Making it your own", which says the same commands.
set -euo pipefail
cd "$(dirname "$0")/../.."

copy=$PWD/target/full/skeleton
rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$copy"
export CARGO_TARGET_DIR=$PWD/target
cd "$copy"
# The commands of the README, as they stand there.
sed -n '/^<!-- without the samples -->/,/^<!-- end -->/p' README.md | sed -n '/^```sh/,/^```/p' | grep -v '^```' > commands
[ -s commands ]
git init -q .
git add -A
git -c user.name=copy -c user.email=copy@localhost commit -q -m "The copy"
bash -euo pipefail commands
cargo check --quiet --offline --workspace --all-targets
echo "1 passed, 0 failed"
if [ "${LONG:-}" ]; then
    cargo test --quiet --offline --workspace | grep -v '^test result'
    echo "1 passed, 0 failed"
fi
rm -rf "$copy"
