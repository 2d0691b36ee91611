#!/usr/bin/env bash
# Keeps the appliance running and prints what to type at it.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name_missing_packages
require_port_and_model
build_image
start_appliance

url=https://localhost:$port
echo
echo "Copy these; Ctrl-C here stops the appliance."
echo
echo "  curl --cacert $certificate $url/v2/health/ready"
echo "  curl --cacert $certificate $url/v2/models/$model"
shopt -s nullglob
for picture in partitions/"$model"/samples/*.png; do
    echo "  curl --cacert $certificate -F image=@$picture $url/v1/models/$model/classify"
    break
done
echo "  curl --cacert $certificate $url/v2/models/$model/infer -d '{\"inputs\": [{\"name\": …, \"datatype\": \"FP32\", \"shape\": …, \"data\": …}]}'"
trap 'stop_appliance; echo; echo stopped; exit 0' INT TERM
wait "$appliance"
