#!/usr/bin/env bash
# run.sh OUT [--dry|--brief] [STEP...]: everything that needs a card, in at most eight minutes, most valuable first.
#
# Needs what build.sh packed (carry/carry.tar.xz), python3 with torch and transformers, and a driver; no network. Each step has
# a limit and a result of its own; one that fails or is cut leaves the others their turn. It sets no clock, mode or limit of the
# card, takes memory with plain allocations and may be run again. OUT ends with at most eight files of at most 16 MiB:
#   steps.csv (step,seconds,exit), results.tar.gz (every step's small results), snapshots-N.tar.gz.
# --dry runs the same steps on the stand-in driver and the CPU, with two layers of every model; --brief a minute and a half of
# each step's beginning on the card, which shows what that machine lacks before the whole run is begun. With steps named, those.
# Look at what came back with: go run ./tools/card OUT
set -uo pipefail
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2; }
out=$1 dry=; shift
case ${1:-} in --*) dry=$1; shift ;; esac
wanted=" $* "
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/small" "$work/snapshots"
tar -xJf "$here/carry/carry.tar.xz" -C "$work" || { echo "run tools/card/build.sh first"; exit 2; }
cp "$work/commit" "$work/small/"

device=cuda quick= library=libcuda.so.1 longest=600 brief=
if [ "$dry" = --brief ]; then
  quick=--quick longest=14 brief=1
fi
if [ "$dry" = --dry ]; then
  device=cpu quick=--quick library=$work/lib/libcuda-standin.so.1
  export VLMEM_LIBCUDA=$library VLMEM_STANDIN_CARD=p6000
  export ONEDNN_MAX_CPU_ISA=AVX512_CORE # with AMX it takes more scratch, which says nothing of a model
else
  export VLMEM_TEST_LIBCUDA=$library
fi
rm -f "$out"/snapshots-*.tar.gz
echo step,seconds,exit >"$out/steps.csv"

# step NAME SECONDS COMMAND...: output in small/NAME.log, its exit (124: cut) in steps.csv.
step() {
  local name=$1 limit=$2 begun=$SECONDS code; shift 2
  [ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return 0
  [ "$limit" -le "$longest" ] || limit=$longest
  [ "$limit" -le $((470 - SECONDS)) ] || limit=$((470 - SECONDS))
  [ "$limit" -ge 5 ] || { echo "$name,0,124" | tee -a "$out/steps.csv"; return; }
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
  "$work/bin/vlmem" probe $([ $brief ] || echo --deep) --save "$work/small/probe.yaml" --format json >"$work/small/probe.json"
  local code=$?
  "$work/bin/vlmem" probe --doctor "$work/small/doctor.tar.gz" >/dev/null || code=1
  command -v nvidia-smi >/dev/null && nvidia-smi -q -x | sed -E 's,<(serial|uuid|board_serial)>[^<]*<,<\1><,' >"$work/small/nvidia-smi.xml"
  return $code
}

tiles() {
  "$work/bin/vlmem" bench tiles --gpu --again --format json -o "$work/small/tiles.json" \
    --shapes $([ $brief ] && echo 256x256x256 || echo attention:2040x2040x128,attention:1x4096x128,attention:1200x1200x64,attention:4096x4096x72,1024x1024x1024,512x2560x4096)
}

pools() {
  "$work/bin/vlmem" bench streams --on "$([ $device = cuda ] && echo cuda || echo host)" --format json -o "$work/small/pools.json" &&
    (cd "$root/internal/alloc/space" && "$work/bin/internal-alloc-space.test" -test.run=- -test.bench=Granules -test.benchtime=200x)
}

# llama MODEL...: llama.cpp's own CUDA library, on random weights of real sizes; buffers come from its log.
llama() {
  [ -x "$work/llama/speed" ] || { echo "not carried"; return 3; }
  local model layers=99; [ $device = cuda ] || layers=0
  for model in "$@"; do
    "$python" "$root/tools/reference/llamacpp/write_random.py" "$here/models/$model.json" q8_0 "$work/$model.gguf" &&
      GGML_BACKENDS=$work/llama LD_LIBRARY_PATH=$libraries:$work/llama${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        "$work/llama/speed" "$work/$model.gguf" "$model-q8_0" $layers $([ $device = cuda ] && echo 0 4096 16384 || echo 0) || return 1
    rm -f "$work/$model.gguf"
  done
}

# serve: llama.cpp's server under `vlmem run`: what was predicted and what the card held, and the time of images.
serve() {
  [ -x "$work/llama/llama-server" ] || { echo "not carried"; return 3; }
  GGML_BACKENDS=$work/llama LD_LIBRARY_PATH=$libraries:$work/llama${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$python" "$here/serve.py" \
    "$work/small/serve.json" --server "$work/llama/llama-server" --vlmem "$work/bin/vlmem" --scratch "$work" $quick
}

pluggable() {
  mkdir -p "$work/site" && cp -r "$root/python/vlmem" "$work/site/" && cp "$work/lib/libvlmem.so" "$work/site/vlmem/" || return 1
  PYTHONPATH=$work/site:$work/transformers "$python" "$here/pluggable.py" "$work/small/pluggable.json" $([ $device = cuda ] || echo --device cpu --driver "$library" --turns 1 --tokens 16)
}

sanitize() {
  command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here"; return 3; }
  conformance compute-sanitizer --error-exitcode 9
}

# CUDA's libraries as PyTorch's packages bring them
libraries=$("$python" -c 'import glob, os, torch
print(":".join(glob.glob(os.path.join(os.path.dirname(torch.__file__), "..", "nvidia", "*", "lib"))))')
models="qwen3-vl-2b qwen3-vl-4b qwen3-vl-8b"
[ -z "$quick" ] || models=tiny

export -f conformance probe tiles pools llama serve pluggable sanitize
export work root here python device library libraries quick brief

# A first import reads gigabytes; it is done while the suites run, which time nothing.
(PYTHONPATH=$work/transformers "$python" -c 'import torch, transformers.models.qwen3_vl.modeling_qwen3_vl, transformers.generation'
  "$python" -c 'import transformers.models.qwen3_vl.modeling_qwen3_vl, transformers.generation') >/dev/null 2>&1 &
step conformance 60 bash -c 'conformance env'
step probe 45 bash -c probe
step snapshots 140 env PYTHONPATH="$work/transformers" "$python" "$here/snapshots.py" "$work/snapshots" --device $device $quick ${RUNS:+--runs $RUNS} \
  --seconds $([ $brief ] && echo 6 || echo 115)
step older 25 "$python" "$here/snapshots.py" "$work/older" --device $device $quick --runs 2b,2b-1920x1088 --seconds $([ $brief ] && echo 3 || echo 18)
step context 25 "$python" "$here/context.py" "$work/small/context.json" --device $device
step rates 30 "$python" "$here/rates.py" "$work/small/rates.json" --device $device
step pools 30 bash -c pools
step tiles 60 bash -c tiles
step pluggable 45 bash -c pluggable
step llama 110 bash -c "llama $models"
step serve 75 bash -c serve
step sanitize 45 bash -c sanitize

# What vlmem makes of the snapshots, while the card is still here: addresses against the rival, and the compact trace.
for file in "$work"/snapshots/*.pickle; do
  [ -e "$file" ] || continue
  "$work/bin/vlmem" trace check "$file" --format json -o "$work/small/check-$(basename "$file" .pickle).json"
done >"$work/small/checks.log" 2>&1
cp "$work/snapshots/runs.jsonl" "$work/small/" 2>/dev/null
cp "$work/older/runs.jsonl" "$work/small/older.jsonl" 2>/dev/null
for file in "$work"/older/*; do
  [ ! -e "$file" ] || [ "${file##*.}" = jsonl ] || mv "$file" "$work/snapshots/older-$(basename "$file")"
done
tar -C "$work/small" -czf "$out/results.tar.gz" .

# pack fills archives with snapshots until one would pass 15 MiB; six at most, oldest first. What is left out is printed.
pack() {
  local n=1 file list=()
  fits() { tar -C "$work/snapshots" -czf "$work/next.tar.gz" "$@" && [ "$(stat -c %s "$work/next.tar.gz")" -le $((15 << 20)) ]; }
  for file in $(cd "$work/snapshots" && ls -tr *.pickle *.txt.gz 2>/dev/null); do
    if ! fits "$file"; then echo "left out, too large: $file"; continue; fi
    if ! fits "${list[@]}" "$file"; then
      n=$((n + 1)); list=(); [ $n -le 6 ] || { echo "left out from here on: $file"; return; }
      fits "$file"
    fi
    list+=("$file")
    cp "$work/next.tar.gz" "$out/snapshots-$n.tar.gz"
  done
}
pack
