#!/usr/bin/env bash
# The Lambda functions as they are deployed: zips for arm64, what is in them and how large they are, and a
# cold start beside the plain server's, on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/venv lambda
rustup --quiet target add aarch64-unknown-linux-gnu

# Optimizing as for a release takes longer than all else here, and changes nothing but speed and size.
[ "${LONG:-}" ] || export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1
PATH=$PWD/target/full/lambda/bin:$PATH cargo lambda build --quiet --release --arm64 --output-format zip \
    --bin greeter-lambda --bin greeter-caller
python3 tests/full/lambda.py
cargo run --quiet ${LONG:+--release} --bin lab -- measure --alone cold-start
echo "1 passed, 0 failed"
