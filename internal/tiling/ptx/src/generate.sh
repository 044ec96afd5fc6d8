#!/bin/sh
# Compiles the kernels to PTX for compute capability 6.1 with clang alone, no CUDA toolkit: generate.sh [OUTPUT FOLDER [MODULE...]].
# The committed files come from clang 14; another version gives other text with the same entry points. They are compressed
# because 100 kernels are 4 MB of text.
set -eu
cd "$(dirname "$0")"
out=${1:-..}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(basename -s .h tiles/*.h)
for name; do
	"${CLANG:-clang}" -x cuda --cuda-device-only --cuda-gpu-arch=sm_61 -nocudainc -nocudalib -std=c++14 -O3 \
		-Xclang -target-feature -Xclang +ptx60 -ffp-contract=fast -fno-ident -DTILES="\"tiles/$name.h\"" -S -o - kernels.cc |
		gzip -9n >"$out/$name.ptx.gz"
done
