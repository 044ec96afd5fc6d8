#!/usr/bin/env bash
# One prefill of Qwen3-VL-4B with a 1080p image, every page written, through vlmem and through the C library's malloc and
# what is installed to take its place, each pair in one run. Prints ns per operation, overhead and page faults.
# Debian: libjemalloc2 libmimalloc2.0 libtcmalloc-minimal4.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/vlmem" ./cmd/vlmem
library() { ldconfig -p | awk -v name="$1" '$1 ~ name && !found++ {print $NF}'; }

try() { # NAME VARIABLE=VALUE...
  echo "== $1"
  env "${@:2}" "$work/vlmem" bench --model qwen3-vl-4b --image 1920x1080 --decode 0 --allocators vlmem,malloc --repeats "${REPEATS:-3}" --format csv |
    awk -F, '$3 == "touched" {printf "%-8s %12.0f ns/op  p99 %12.0f  overhead %6.2f %%  %9d faults\n", $2, $5, $7, 100 * $11, $12}'
}

try "glibc, defaults"
# 32 MiB is the most that glibc takes by tunable on its own; the variable takes more.
try "glibc, thresholds raised" MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=67108864
for name in tcmalloc_minimal mimalloc jemalloc; do
  path=$(library "lib$name.so")
  [ -n "$path" ] && try "$name" LD_PRELOAD="$path"
done
