#!/usr/bin/env bash
# run.sh OUT [--dry]: everything that needs a card, in at most eight minutes, most valuable first.
#
# Needs what build.sh packed (carry/carry.tar.xz), python3 with torch and transformers, and a driver; no network. Each step has
# a limit and a result of its own; one that fails or is cut leaves the others their turn. It sets no clock, mode or limit of the
# card, takes memory with plain allocations and may be run again. OUT ends with at most eight files of at most 16 MiB:
#   steps.csv (step,seconds,exit), results.tar.gz (every step's small results), snapshots-N.tar.gz.
# --dry runs the same steps on the stand-in driver and the CPU, with two layers of every model.
# Look at what came back with: go run ./tools/card OUT
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1; dry=${2:-}
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/small" "$work/snapshots"
tar -xJf "$here/carry/carry.tar.xz" -C "$work" || { echo "run tools/card/build.sh first"; exit 2; }
cp "$work/commit" "$work/small/"

device=cuda quick= library=libcuda.so.1
if [ "$dry" = --dry ]; then
  device=cpu quick=--quick library=$work/lib/libcuda-standin.so.1
  export VLMEM_LIBCUDA=$library VLMEM_STANDIN_CARD=p6000
  export ONEDNN_MAX_CPU_ISA=AVX512_CORE # with AMX it takes more scratch, which says nothing of a model
else
  export VLMEM_TEST_LIBCUDA=$library
fi
echo step,seconds,exit >"$out/steps.csv"

# step NAME SECONDS COMMAND...: output in small/NAME.log, its exit (124: cut) in steps.csv.
step() {
  local name=$1 limit=$2 begun=$SECONDS code; shift 2
  timeout -k 5 "$limit" "$@" >"$work/small/$name.log" 2>&1; code=$?
  echo "$name,$((SECONDS - begun)),$code" | tee -a "$out/steps.csv"
}

# conformance FILTER...: the suites of every package that meets the driver, in their own folders, whose testdata they read.
conformance() {
  local code=0 suite
  for suite in internal-cuda internal-alloc-space internal-alloc-stream internal-tiling-card; do
    (cd "$root/${suite//-//}" && "$@" "$work/bin/$suite.test" -test.v -test.short) || code=1
  done
  return $code
}

probe() {
  "$work/bin/vlmem" probe --deep --save "$work/small/probe.yaml" --format json >"$work/small/probe.json"
  local code=$?
  "$work/bin/vlmem" probe --doctor "$work/small/doctor.tar.gz" >/dev/null || code=1
  command -v nvidia-smi >/dev/null && nvidia-smi -q -x | sed -E 's,<(serial|uuid|board_serial)>[^<]*<,<\1><,' >"$work/small/nvidia-smi.xml"
  return $code
}

tiles() {
  "$work/bin/vlmem" bench tiles --gpu --again --format json -o "$work/small/tiles.json" \
    --shapes attention:2040x2040x128,attention:1x4096x128,attention:1200x1200x64,attention:4096x4096x72,1024x1024x1024,512x2560x4096
}

pools() {
  "$work/bin/vlmem" bench streams --on "$([ $device = cuda ] && echo cuda || echo host)" --format json -o "$work/small/pools.json" &&
    (cd "$root/internal/alloc/space" && "$work/bin/internal-alloc-space.test" -test.run=- -test.bench=Granules -test.benchtime=200x)
}

# llama MODEL...: llama.cpp's own CUDA library, on zeros of real sizes; buffers come from its log.
llama() {
  [ -x "$work/llama/speed" ] || { echo "not carried"; return 3; }
  local libraries; libraries=$("$python" -c 'import glob, os, torch
print(":".join(glob.glob(os.path.join(os.path.dirname(torch.__file__), "..", "nvidia", "*", "lib"))))')
  local model layers=99; [ $device = cuda ] || layers=0
  for model in "$@"; do
    "$python" "$root/tools/reference/llamacpp/write_gguf.py" "$here/models/$model.json" q8_0 "$work/$model.gguf" &&
      GGML_BACKENDS=$work/llama LD_LIBRARY_PATH=$libraries:$work/llama \
        "$work/llama/speed" "$work/$model.gguf" "$model-q8_0" $layers $([ $device = cuda ] && echo 0 4096 16384 || echo 0) || return 1
    rm -f "$work/$model.gguf"
  done
}

pluggable() {
  mkdir -p "$work/site" && cp -r "$root/python/vlmem" "$work/site/" && cp "$work/lib/libvlmem.so" "$work/site/vlmem/" || return 1
  PYTHONPATH=$work/site "$python" "$here/pluggable.py" "$work/small/pluggable.json" $([ $device = cuda ] || echo --device cpu --driver "$library" --turns 1 --tokens 16)
}

sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here"; return 3; }
  conformance compute-sanitizer --error-exitcode 9
}

export -f conformance probe tiles pools llama pluggable sanitize
export work root here python device library

step probe 45 bash -c probe
step conformance 50 bash -c 'conformance env'
step snapshots 135 "$python" "$here/snapshots.py" "$work/snapshots" --device $device $quick --seconds 110
step context 25 "$python" "$here/context.py" "$work/small/context.json" --device $device
step rates 30 "$python" "$here/rates.py" "$work/small/rates.json" --device $device
step pools 30 bash -c pools
step tiles 45 bash -c tiles
step pluggable 40 bash -c pluggable
step llama 50 bash -c "llama $([ $device = cuda ] && echo qwen3-vl-2b qwen3-vl-4b || echo tiny)"
step sanitize 25 bash -c sanitize

# What vlmem makes of the snapshots, while the card is still here: addresses against the rival, and the compact trace.
for file in "$work"/snapshots/*.pickle; do
  [ -e "$file" ] || continue
  "$work/bin/vlmem" trace check "$file" --format json -o "$work/small/check-$(basename "$file" .pickle).json"
done >"$work/small/checks.log" 2>&1
cp "$work/snapshots/runs.jsonl" "$work/small/" 2>/dev/null
tar -C "$work/small" -czf "$out/results.tar.gz" .

# pack fills archives with snapshots until one would pass 15 MiB; six at most, in the order of runs.jsonl.
pack() {
  local n=1 file list=()
  for file in $(cd "$work/snapshots" && ls -tr *.pickle *.txt.gz 2>/dev/null); do
    list+=("$file")
    tar -C "$work/snapshots" -czf "$work/next.tar.gz" "${list[@]}"
    if [ "$(stat -c %s "$work/next.tar.gz")" -gt $((15 << 20)) ]; then
      n=$((n + 1)); list=("$file"); [ $n -le 6 ] || return
      tar -C "$work/snapshots" -czf "$work/next.tar.gz" "${list[@]}"
      [ "$(stat -c %s "$work/next.tar.gz")" -le $((15 << 20)) ] || { n=$((n - 1)); list=(); continue; }
    fi
    cp "$work/next.tar.gz" "$out/snapshots-$n.tar.gz"
  done
}
pack
