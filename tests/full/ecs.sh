#!/usr/bin/env bash
# What ecs/ says, without AWS: the CDK app with its rules, what linters find in its templates, and what becomes of
# it at moto, an AWS that is not one.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v npm >/dev/null; then apt-get install -qq -y --no-install-recommends nodejs npm; fi
# The dependencies of each go with nobody else's.
tests/full/venv checkov
tests/full/venv moto
npm ci --silent --prefix ecs/cdk
npm run --silent --prefix ecs/cdk build

# Nothing that it needs to synthesize is anywhere else.
export OFFLINE="unshare --map-root-user --net"
if ! $OFFLINE true; then
    echo "1 skipped: a network cannot be taken away here"
    OFFLINE=
fi
log=target/full/ecs-rules.log
$OFFLINE npm test --silent --prefix ecs/cdk >"$log" 2>&1
code=$?
count() { grep -oP "^ℹ $1 \K\d+" "$log" || echo 0; }
passed=$(count pass) failed=$(count fail)
# Such as when it does not compile.
if [ "$code" -ne 0 ] || [ "$passed" -eq 0 ]; then failed=$((failed > 0 ? failed : 1)); fi
[ "$failed" -eq 0 ] || cat "$log"
echo "$passed passed, $failed failed"

PATH=$PWD/target/full/moto/bin:$PWD/target/full/checkov/bin:$PATH \
    pytest -q --noconftest -p no:cacheprovider tests/full/ecs.py
pytest=$?

# ECS's order of a deployment, with the templates' settings before the servers.
settings=target/full/ecs-settings.json
npm run --silent --prefix ecs/cdk settings >"$settings"
if cargo run --quiet ${LONG:+--release} --bin lab -- rollout --ecs "$settings" --calls $([ "${LONG:-}" ] && echo 20000 || echo 5000); then
    echo "1 passed, 0 failed"
else
    echo "0 passed, 1 failed"
    failed=1
fi
[ "$failed" -eq 0 ] && [ "$pytest" -eq 0 ]
