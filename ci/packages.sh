#!/usr/bin/env bash
# Names the Debian packages that are missing here, one per line. --install installs them;
# --browser adds what the tests of the page need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=$PATH:/usr/sbin:/sbin

missing() {
    local python=${PYTHON:-python3}
    command -v make >/dev/null || echo make
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    command -v git >/dev/null || echo git
    [ -z "$browser" ] || command -v chromium >/dev/null || echo chromium
    if ! command -v "$python" >/dev/null; then
        echo python3
        echo python3-venv
    elif ! "$python" -c 'import ensurepip' 2>/dev/null; then
        echo python3-venv
    fi
    command -v occlum >/dev/null && return
    # The stand-in for occlum: its sandbox and its system call filter.
    command -v bwrap >/dev/null || echo bubblewrap
    has_library 'libseccomp\.so\.2' || echo libseccomp2
    # An interpreter that isn't position-independent can't run in an enclave; a small launcher
    # around the same version's library can, and has to be compiled.
    if ! is_position_independent "$python"; then
        command -v cc >/dev/null || echo gcc libc6-dev
        has_library 'libpython3\.11\.so' || echo libpython3.11
    fi
}

has_library() {
    # Not grep -q: it leaves at the first match, and pipefail reports the broken pipe of ldconfig.
    ldconfig -p | grep "$1" >/dev/null
}

is_position_independent() {
    # Byte 16 of an ELF file is its type: 3 is ET_DYN.
    local file
    file=$("$1" -c 'import os, sys; print(os.path.realpath(sys._base_executable))' 2>/dev/null) || return 1
    [ "$(od -An -tu1 -j16 -N1 "$file" | tr -d ' ')" = 3 ]
}

install= browser=
for option; do
    case $option in
        --install) install=1 ;;
        --browser) browser=1 ;;
        *)
            echo "error: expected --install or --browser, got '$option'" >&2
            exit 2
            ;;
    esac
done

packages=$(missing | tr ' ' '\n' | sort -u)
[ -n "$packages" ] || exit 0
if [ -z "$install" ]; then
    echo "$packages"
    exit 0
fi
echo "installing: $(echo "$packages" | tr '\n' ' ')"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one argument a package
apt-get install -y -qq --no-install-recommends $packages ca-certificates >/dev/null
