# Sourced by the other scripts: where things are, and how the appliance is started and stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

model=${MODEL:-digits}
port=${PORT:-8443}
keys=build/keys
owner=build/owner/owner.pem
bundle=build/$model.bundle
image=build/image
log=build/appliance.log
certificate=build/certificate.pem

# The real occlum where there is one, the stand-in otherwise.
command -v occlum >/dev/null || PATH="$PWD/tools:$PATH"

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

name_missing_packages() {
    local packages
    packages=$(ci/packages.sh)
    [ -z "$packages" ] || printf 'note: missing here, without them less is checked: apt-get install %s\n' \
        "$(echo "$packages" | tr '\n' ' ')" >&2
}

# Finds out before a build of half a minute what would fail at its end.
require_port_and_model() {
    if [ ! -d "partitions/$model" ]; then
        echo "error: there is no partitions/$model; 'tools/partition.py' makes one" >&2
        exit 1
    fi
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || ((port < 1 || port > 65535)); then
        echo "error: PORT: expected a number from 1 to 65535, got '$port'" >&2
        exit 2
    fi
    if ! .venv/bin/python -c 'import socket, sys; socket.create_server(("", int(sys.argv[1])))' "$port" 2>/dev/null; then
        echo "error: port $port is in use; name another: make … PORT=9443" >&2
        exit 3
    fi
}

build_image() {
    step "keys and encrypted bundle"
    local key
    id=$(tools/bundle.py id "partitions/$model")
    key=$keys/$id.key
    [ -e "$key" ] || tools/bundle.py keygen model "$key"
    [ -e "$owner" ] || tools/bundle.py keygen owner "$owner"
    tools/bundle.py "partitions/$model" --key "$key" --owner-key "$owner" -o "$bundle"

    step "Occlum image"
    # The key lies in a folder that the host can read, and whoever reaches the port may ask: fit for
    # a demonstration, not for production. The appliance says both when it starts.
    occlum_image/build.sh --bundle "$bundle" --owner-public-key "${owner%.pem}.pub" \
        --insecure-key-folder "$keys" --insecure-open-access --mode SIM --port "$port" -o "$image"
}

# Starts the appliance and returns when it says that it is ready.
start_appliance() {
    local pipe line
    step "occlum run /bin/app"
    pipe=$(mktemp -u)
    mkfifo "$pipe"
    : >"$log"
    (cd "$image" && exec occlum run /bin/app) >"$pipe" 2>&1 &
    appliance=$!
    trap stop_appliance EXIT
    exec 3<"$pipe"
    rm "$pipe"
    while IFS= read -r line <&3; do
        echo "$line" | tee -a "$log"
        [[ $line == "ready on "* ]] && break
    done
    if [[ ${line:-} != "ready on "* ]]; then
        echo "error: the appliance stopped before it was ready" >&2
        exit 3
    fi
    cat <&3 >>"$log" &
    sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' "$log" >"$certificate"
}

stop_appliance() {
    trap - EXIT
    kill -TERM "$appliance" 2>/dev/null || true
    wait "$appliance" 2>/dev/null || true
}
