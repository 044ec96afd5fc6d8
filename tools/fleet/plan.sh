#!/bin/bash
# plan.sh CAPTURES CONFIGS: vlmem fleet on at least 200 machines and 12 models, timed, by hand, outside CI. CAPTURES are folders
# with archives of captured machines (a root with sys or proc in it), joined by :. Each that says how much memory it has is a
# machine alone, and beside four built-in cards; the built-in laptop is one beside every card. The models are those built in
# that an engine's estimate knows, and those of config.json files in CONFIGS until there are 12.
#
#   tools/fleet/plan.sh captures:more configs       VLMEM=program tries another than the one that is built here
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
vlmem=${VLMEM:-$work/vlmem}
[ -n "${VLMEM:-}" ] || (cd "$repo" && go build -o "$vlmem" ./cmd/vlmem)
mkdir "$work/nodes"
for archive in $(find ${1//:/ } -maxdepth 1 -name '*.tar.*'); do
  name=$(basename "${archive%.tar.*}" | tr + _)
  mkdir "$work/root" && tar xf "$archive" -C "$work/root" 2>/dev/null || true
  root=$(find "$work/root" -maxdepth 2 \( -name sys -o -name proc \) -printf '%h\n' | head -1)
  if "$vlmem" probe --root "${root:-$work/root}" --reported --format yaml -o "$work/nodes/$name.yaml" 2>/dev/null; then
    grep -q '^memory:' "$work/nodes/$name.yaml" || rm "$work/nodes/$name.yaml"
  fi
  rm -rf "$work/root"
done
models=()
for m in qwen2.5-vl-{3b,7b,32b,72b} qwen3-vl-{2b,4b,8b,30b-a3b,32b,235b-a22b} "$2"/*32B*config.json; do
  [ ${#models[@]} = 24 ] || models+=(--model "$m")
done
machines=("$work/nodes/*.yaml" "$work/nodes/*.yaml+gtx-1080" "$work/nodes/*.yaml+rtx-4090" "$work/nodes/*.yaml+h100" "$work/nodes/*.yaml+l4" 'i5-10210u' 'i5-10210u+*')
start=$(date +%s.%N)
time "$vlmem" fleet "${machines[@]}" "${models[@]}" --mix chat --format json -o "$work/plan.json"
end=$(date +%s.%N)
python3 - "$work/plan.json" "$start" "$end" <<'PY'
import json, sys
plan = json.load(open(sys.argv[1]))
machines = sum(len(k["machines"]) for k in plan["kinds"])
models = len(plan["kinds"][0]["models"])
fit = sum(len(a["fits"] or []) for k in plan["kinds"] for a in k["models"])
seconds = float(sys.argv[3]) - float(sys.argv[2])
print(f"{machines} machines of {len(plan['kinds'])} kinds x {models} models in {seconds:.1f} s; {fit} pairs fit")
sys.exit(machines < 200 or models < 12)
PY
