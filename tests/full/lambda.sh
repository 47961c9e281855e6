#!/usr/bin/env bash
# The Lambda functions as they are deployed: zips for arm64, what is in them and how large they are, and a
# cold start beside the plain server's, on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/venv lambda cargo-lambda==1.9.2 cargo-zigbuild==0.24.0
rustup --quiet target add aarch64-unknown-linux-gnu

functions=(--bin greeter-lambda --bin greeter-caller)
PATH=$PWD/target/full/lambda/bin:$PATH cargo lambda build --quiet --release --arm64 --output-format zip "${functions[@]}"
cargo build --quiet --release --workspace --bin greeter "${functions[@]}"
exec python3 tests/full/lambda.py
