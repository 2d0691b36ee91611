#!/usr/bin/env bash
# Keeps the appliance running and prints what to type at it.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name_missing_packages
[ -d "$image/build" ] && [ -n "${KEEP_IMAGE:-}" ] || build_image
start_appliance

cat <<EOT

Copy these; Ctrl-C here stops the appliance.

  curl --cacert $certificate https://localhost:$port/v2/health/ready
  curl --cacert $certificate https://localhost:$port/v2/models/$model
  curl --cacert $certificate -F image=@partitions/$model/samples/digit-3-1.png \\
       https://localhost:$port/v1/models/$model/classify
EOT
trap 'stop_appliance; exit 0' INT TERM
wait "$appliance"
