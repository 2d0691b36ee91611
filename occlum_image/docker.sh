#!/usr/bin/env bash
# Makes the container that builds the image with Occlum's own tools.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: occlum_image/docker.sh --occlum-digest sha256:HEX --python-url URL --python-sha256 HEX

  --occlum-digest  of occlum/occlum:0.31.0-ubuntu22.04, as its registry shows it
  --python-url     source archive of a CPython release, 3.11 or newer: .../Python-3.11.N.tar.xz
  --python-sha256  its SHA-256, from the release's own page

It makes the container image cloister-occlum. Then:

  docker run --rm -v "$PWD/build:/cloister/build" cloister-occlum \
      --bundle build/mine.bundle --owner-public-key build/owner/owner.pub --mode SIM

To run in an enclave, the container needs the devices:

  docker run --rm --device /dev/sgx_enclave --device /dev/sgx_provision -p 8443:8443 \
      -v "$PWD/build:/cloister/build" -w /cloister/build/image \
      --entrypoint occlum cloister-occlum run /bin/app
TEXT
}

refuse() {
    echo "error: $*" >&2
    echo "see: occlum_image/docker.sh --help" >&2
    exit 2
}

digest='' url='' sha256=''
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --occlum-digest | --python-url | --python-sha256)
            (($# > 1)) || refuse "$1 needs a value"
            case $1 in
                --occlum-digest) digest=$2 ;;
                --python-url) url=$2 ;;
                --python-sha256) sha256=$2 ;;
            esac
            shift 2
            ;;
        *) refuse "unknown option '$1'" ;;
    esac
done
[[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] ||
    refuse "--occlum-digest: expected 'sha256:' and 64 hexadecimal digits, got '$digest'"
[[ $url =~ ^https://[^[:space:]]+/Python-3\.[0-9]+\.[0-9]+\.tar\.xz$ ]] ||
    refuse "--python-url: expected https://.../Python-3.N.N.tar.xz of a final release, got '$url'"
[[ $sha256 =~ ^[0-9a-f]{64}$ ]] ||
    refuse "--python-sha256: expected 64 hexadecimal digits, got '$sha256'"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec docker build -f occlum_image/Dockerfile -t cloister-occlum \
    --build-arg "OCCLUM_DIGEST=$digest" \
    --build-arg "PYTHON_URL=$url" --build-arg "PYTHON_SHA256=$sha256" .
