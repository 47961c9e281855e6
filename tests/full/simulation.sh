#!/usr/bin/env bash
# Drain, age, health, retry and partition in a simulated network, by seed: thousands of seeds in the long run, else 20.
# In CI it is only linted: half of what the tests are made of would have to be compiled a second time.
#
#   SEED=7 LOG=debug cargo run -p simulation --features turmoil      a seed that failed, again
set -uo pipefail
cd "$(dirname "$0")/../.."

simulation=(--quiet --package simulation --features turmoil)
if [ "${LONG:-}" ]; then
    run=(cargo run "${simulation[@]}" --profile fuzz -- --seeds "${SIMULATION_SEEDS:-3000}")
elif [ "${CI:-}" = true ]; then
    run=(cargo clippy "${simulation[@]}" -- -D warnings)
else
    run=(cargo run "${simulation[@]}" -- --seeds "${SIMULATION_SEEDS:-20}")
fi

if "${run[@]}"; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
