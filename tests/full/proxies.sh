#!/usr/bin/env bash
# Balancers that we did not write, with the files of docker/, and the public clients through them:
# Envoy, HAProxy and nginx; Python's client and Node's. Then servers that are replaced under load, and
# how calls are spread: the tables of docs/reliability.md, in miniature unless the run is long.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! { command -v haproxy && [ -e /usr/lib/nginx/modules/ngx_stream_module.so ]; } >/dev/null; then
    apt-get install -qq -y --no-install-recommends haproxy nginx-light libnginx-mod-stream
    # Debian starts what it installs.
    for name in haproxy nginx; do service $name stop || true; done
fi
tests/full/tools || exit
export NODE_PATH=$PWD/target/full/node_modules PATH=$PWD/target/full/venv/bin:$PATH

pytest -q -p no:cacheprovider tests/full/proxies.py
balancers=$?
if cargo run --quiet ${LONG:+--release} --bin lab -- rollout $([ "${LONG:-}" ] || echo --quick --alone); then
    echo "1 passed, 0 failed"
    exit $balancers
fi
echo "0 passed, 1 failed"
exit 1
