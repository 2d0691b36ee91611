#!/usr/bin/env bash
# Makes .venv with exactly the packages of requirements.lock; --extras adds those of
# ci/requirements.lock to it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

install() {
    .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes \
        --only-binary :all: --requirement "$1" && return
    echo "error: the packages couldn't be installed; the first setup needs the network" >&2
    exit 3
}

if [ "${1:-}" = --extras ]; then
    install ci/requirements.lock
    touch .venv/.extras-ready
    exit 0
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: '$python' isn't Python 3.11 or newer; install one, or name it: make PYTHON=python3.11" >&2
    exit 3
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "error: $python can't make virtual environments; on Debian: apt-get install python3-venv" >&2
    exit 3
fi

echo "setting up .venv with $("$python" --version): about 100 packages, a minute"
"$python" -m venv --clear .venv
install requirements.lock
touch .venv/.ready
