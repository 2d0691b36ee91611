#!/usr/bin/env bash
# Builds the enclave image; --help lists the options. The work is done by tools/image.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
if [[ ! -x "$python" ]]; then
    echo "error: $root/.venv doesn't exist yet; 'make setup' in $root makes it" >&2
    exit 3
fi
export PYTHONPATH="$root"
exec "$python" -m tools.image.command "$@"
