#!/usr/bin/env bash
# Resolves pyproject.toml into the lock files: what goes into the image, what a host needs, and what
# fuzzing and the browser's tests need beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet pip-tools
compile() {
    "$scratch/venv/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras \
        --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
        --upgrade "$@" pyproject.toml
}
compile --output-file occlum_image/requirements.lock
compile --extra tools --extra test --extra check \
    --constraint occlum_image/requirements.lock --output-file requirements.lock
compile --extra fuzz --extra browser --constraint requirements.lock --output-file ci/requirements.lock
