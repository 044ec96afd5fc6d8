#!/bin/sh
# Assembles the committed PTX for sm_61 and writes what each kernel takes to ../registers.csv. PTXAS names the assembler: NVIDIA's
# ptxas, which the Python package nvidia-cuda-nvcc-cu12 carries alone. The committed file is from 12.6.85.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for f in ../*.ptx.gz; do
	gzip -dc "$f" >"$work/k.ptx"
	"${PTXAS:-ptxas}" -arch=sm_61 -v -o /dev/null "$work/k.ptx" 2>>"$work/log"
done
{
	echo "entry,registers,spilled_bytes,shared_bytes"
	awk -F"[' ,]+" '/Compiling entry/ {for (i = 1; i <= NF; i++) if ($i == "function") name = $(i + 1)}
		/spill stores/ {for (i = 1; i <= NF; i++) if ($i == "spill" && $(i + 1) == "stores") spilled = $(i - 2)}
		/Used/ {shared = 0; for (i = 1; i <= NF; i++) {if ($i == "Used") r = $(i + 1); if ($i == "smem") shared = $(i - 2)}
			print name "," r "," spilled "," shared}' "$work/log" | sort
} >../registers.csv
