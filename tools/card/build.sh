#!/usr/bin/env bash
# build.sh: puts what a machine with a card needs and may lack into tools/card/carry, which git ignores: the program, the
# Python module's library and the test binaries (cgo, amd64), the stand-in driver for dry runs, and, with npm at hand, llama.cpp's CUDA library.
# Run from anywhere; about a minute, and two with llama.cpp. At most 48 MiB.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$(cd "$here/../.." && pwd); carry=$here/carry
cd "$root"
rm -rf "$carry"; mkdir -p "$carry/bin" "$carry/lib" "$carry/llama"

export CGO_ENABLED=1 GOOS=linux GOARCH=amd64
go build -trimpath -ldflags='-s -w' -o "$carry/bin/vlmem" ./cmd/vlmem
for package in internal/cuda internal/alloc/space internal/alloc/stream internal/tiling/card; do
  go test -c -trimpath -ldflags='-s -w' -o "$carry/bin/${package//\//-}.test" "./$package"
done
go build -trimpath -buildmode=c-shared -ldflags='-s -w' -o "$carry/lib/libvlmem.so" ./cmd/libvlmem && rm "$carry/lib/libvlmem.h"
cc -shared -fPIC -O1 -ffp-contract=off -o "$carry/lib/libcuda-standin.so.1" internal/cuda/standin/src/libcuda.c -lpthread
git rev-parse HEAD >"$carry/commit"

# llama.cpp 0.5.0 as node-llama-cpp 3.22.1 ships it. Its CUDA library holds seven architectures (159 MB); slim.py keeps one.
llama() {
  local scratch; scratch=$(mktemp -d); trap 'rm -rf "$scratch"' RETURN
  (cd "$scratch" && npm pack --silent @node-llama-cpp/linux-x64-cuda@3.22.1 node-llama-cpp@3.22.1 >/dev/null &&
    for archive in *.tgz; do mkdir "${archive%.tgz}"; tar xzf "$archive" -C "${archive%.tgz}" --strip-components=1; done
    git -c advice.detachedHead=false clone -q node-llama-cpp-3.22.1/llama/gitRelease.bundle source)
  local bins=$scratch/node-llama-cpp-linux-x64-cuda-3.22.1/bins/linux-x64-cuda
  python3 "$here/slim.py" "$bins/libggml-cuda.so" 90 "$carry/llama/libggml-cuda.so"
  cp "$bins"/libllama.cuda.v*.so "$bins"/libggml.cuda.v*.so "$bins/libggml-base.so" "$carry/llama/"
  cp "$bins"/libggml-cpu-{x64,haswell,skylakex,sapphirerapids}.so "$carry/llama/"
  g++ -std=c++17 -O1 -I"$scratch/source/include" -I"$scratch/source/ggml/include" "$root/tools/reference/llamacpp/speed.cpp" -o "$carry/llama/speed" \
    "$bins"/libllama.cuda.v*.so "$bins"/libggml.cuda.v*.so "$bins/libggml-base.so" \
    -Wl,-rpath,'$ORIGIN' -Wl,--unresolved-symbols=ignore-in-shared-libs
}
if command -v npm >/dev/null && command -v g++ >/dev/null; then llama || echo "without llama.cpp: see above"; else
  echo "without llama.cpp: npm and g++ are needed to carry it"
fi
tar -C "$carry" -cJf "$carry/carry.tar.xz" bin lib llama commit
rm -rf "$carry/bin" "$carry/lib" "$carry/llama"
ls -l "$carry/carry.tar.xz"
