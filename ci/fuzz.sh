#!/usr/bin/env bash
# Fuzzes every target for some seconds, one after the other; fails when one breaks a law.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${FUZZ_SECONDS:-15}
if ! [[ $seconds =~ ^[1-9][0-9]{0,4}$ ]]; then
    echo "error: SECONDS: expected a number from 1 to 99999, got '$seconds'" >&2
    exit 2
fi

kept=build/fuzz
broken=0
mkdir -p "$kept"
for folder in tests/fuzz/corpus/*/; do
    target=$(basename "$folder")
    log=$kept/$target.log
    if .venv/bin/python -m tests.fuzz.run --target "$target" --seconds "$seconds" >"$log" 2>&1; then
        sed -nE "s/^#([0-9]+)\s+DONE\s+cov: ([0-9]+).*/$target: \1 inputs, coverage \2, no law broken/p" "$log"
        continue
    fi
    broken=1
    echo "$target: failed; the whole log is $log" >&2
    grep -vE '^(\[INFO\]|INFO:|WARNING:|#[0-9]+|0x|Base64:|stat::)' "$log" | tail -n 40 >&2
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    # Where CI has run, its output is all that remains.
    [ -z "$input" ] || { echo "the input $input in base64:" && base64 "$input"; } >&2
done
exit "$broken"
