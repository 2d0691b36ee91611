#!/usr/bin/env bash
# Keeps the appliance running and prints what to type at it.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name_missing_packages
require_port_and_model
build_image
start_appliance
trap 'stop_appliance; echo; echo stopped; exit 0' INT TERM

url=https://localhost:$port
client="tools/client.py --url $url --cacert $certificate"
request=build/request.json
largest_json=$((4 * 1024 * 1024)) # MAX_JSON_BYTES of app/limits.py

echo
echo "Copy these; Ctrl-C here stops the appliance."
echo
echo "  curl --cacert $certificate $url/v2/health/ready"
echo "  curl --cacert $certificate $url/v2/models/$id"
shopt -s nullglob
for picture in partitions/"$model"/samples/*.png; do
    echo "  curl --cacert $certificate -F image=@$picture $url/v1/models/$id/classify"
    break
done
# Zeros fit no model's meaning, but every model that the protocol's types can describe.
if $client example "$id" >"$request"; then
    [ "$(stat -c %s "$request")" -gt $largest_json ] ||
        echo "  curl --cacert $certificate -d @$request $url/v2/models/$id/infer"
    echo "  $client try $id"
    echo "  $client infer --help    # with your own arrays"
fi
wait "$appliance" || true
echo "error: the appliance ended by itself; $log has its last words" >&2
exit 3
