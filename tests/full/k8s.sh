#!/usr/bin/env bash
# The manifests of k8s/: before validators, and at work. There is no cluster: what a kubelet and a Deployment
# do with the pods is done here, with containers. Installs kubectl and an engine if there are none.
set -euo pipefail
cd "$(dirname "$0")/../.."

tests/full/tools
tests/full/local-images
command -v kubectl >/dev/null || tests/full/trixie target/full/trixie kubectl
# Its dependencies go with nobody else's.
tests/full/venv checkov
[ "${LONG:-}" ] || export LTO=thin
set -a
. target/full/images.env
export PATH=$PWD/target/full/venv/bin:$PATH:$PWD/target/full/trixie/usr/bin

tests/full/tests-of manifests::
pytest -q -p no:cacheprovider -W error::pytest.PytestUnhandledThreadExceptionWarning tests/full/manifests.py tests/full/k8s.py
