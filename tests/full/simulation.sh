#!/usr/bin/env bash
# Drain, age, health, retry and partition in a simulated network, by seed: thousands of them in the long run, else 20.
# A seed that fails says how to have it again: SEED=7 LOG=debug cargo run -p simulation --features turmoil
set -uo pipefail
cd "$(dirname "$0")/../.."

# With the features of the tests, so that what they have compiled need not be compiled again.
simulate=(cargo run --quiet --package simulation --features turmoil --bin simulation)
if [ "${LONG:-}" ]; then
    simulate+=(--profile fuzz -- --seeds "${SIMULATION_SEEDS:-3000}")
else
    simulate+=(-- --seeds "${SIMULATION_SEEDS:-20}")
fi

if "${simulate[@]}"; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
