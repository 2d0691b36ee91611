#!/usr/bin/env bash
# The whole way: partitions, key, bundle, image, occlum run, one picture over TLS, the accuracy table.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name_missing_packages
require_port_and_model
shopt -s nullglob
pictures=(partitions/"$model"/samples/*.png)
if [ ${#pictures[@]} = 0 ]; then
    echo "error: partitions/$model/samples has no picture to send; 'make serve MODEL=$model' serves it" >&2
    exit 1
fi
build_image
start_appliance

picture=${pictures[${#pictures[@]} / 3]}
step "curl: $picture over verified TLS"
curl --silent --show-error --fail-with-body --cacert "$certificate" \
    --form "image=@$picture" "https://localhost:$port/v1/models/$id/classify?top_k=3" |
    .venv/bin/python -m json.tool | tee build/answer.json

step "tools/check_accuracy.py partitions/"
tools/check_accuracy.py partitions/

step "stopping the appliance"
stop_appliance
.venv/bin/python - <<'PYTHON'
import json
answer = json.load(open("build/answer.json"))
best = answer["labels"][0]
print(f"The picture shows a {best['label']} (probability {best['probability']:.3f}), computed by "
      f"{len(answer['timing']['partitions'])} encrypted partitions in the runtime {answer['runtime']!r}.")
PYTHON
