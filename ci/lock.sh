#!/usr/bin/env bash
# Resolves pyproject.toml into the lock files: what goes into the image, what a host needs, what
# fuzzing and the browser's tests need beside it, and what this script itself runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What decides about the hashes of everything else is installed by hash itself, and builds nothing
# with packages that it fetches on the way.
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
    --only-binary :all: --requirement ci/lock-tools.lock
compile() {
    "$scratch/venv/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --no-build-isolation --upgrade "$@"
}
compile --output-file occlum_image/requirements.lock pyproject.toml
compile --extra tools --extra test --extra check \
    --constraint occlum_image/requirements.lock --output-file requirements.lock pyproject.toml
compile --extra fuzz --extra browser --constraint requirements.lock \
    --output-file ci/requirements.lock pyproject.toml
compile --output-file ci/lock-tools.lock ci/lock-tools.in
