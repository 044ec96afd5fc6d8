#!/usr/bin/env bash
# build.sh: puts what a machine with a card needs and may lack into tools/card/carry, which git ignores: the program, the
# Python module's library and the test binaries (cgo, amd64), the stand-in driver for dry runs, and, with npm at hand, llama.cpp's CUDA library.
# Run from anywhere; two minutes, and with llama.cpp half an hour on two processors: its server and its CUDA code are compiled.
# LLAMA_SERVER and LLAMA_CUDA name those of an earlier run (tar -xJf carry.tar.xz llama). At most 48 MiB.
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

# The transformers whose allocations vlmem generates, without the models that are not recorded: a machine's own may be older.
transformers() (
  cd "$(mktemp -d)" && python3 -m pip download -q --no-deps -d . transformers==5.24.0 && python3 -m zipfile -e ./*.whl "$carry/transformers"
  cd "$carry/transformers/transformers/models"
  find . -mindepth 1 -maxdepth 1 -type d ! -name auto ! -name qwen2 ! -name qwen3 ! -name qwen3_vl ! -name qwen3_vl_moe -exec rm -r {} +
)
transformers

# llama.cpp 0.5.0 as node-llama-cpp 3.22.1 ships it. Its CUDA library holds seven architectures (159 MB); slim.py keeps one.
llama() {
  local scratch; scratch=$(mktemp -d); trap 'rm -rf "$scratch"' RETURN
  (cd "$scratch" && npm pack --silent @node-llama-cpp/linux-x64-cuda@3.22.1 node-llama-cpp@3.22.1 >/dev/null &&
    for archive in *.tgz; do mkdir "${archive%.tgz}"; tar xzf "$archive" -C "${archive%.tgz}" --strip-components=1; done
    git -c advice.detachedHead=false clone -q node-llama-cpp-3.22.1/llama/gitRelease.bundle source)
  local bins=$scratch/node-llama-cpp-linux-x64-cuda-3.22.1/bins/linux-x64-cuda
  if [ -n "${LLAMA_CUDA:-}" ]; then cp "$LLAMA_CUDA" "$carry/llama/libggml-cuda.so"; else slimmed "$scratch" "$bins/libggml-cuda.so"; fi
  cp "$bins"/libllama.cuda.v*.so "$bins"/libggml.cuda.v*.so "$bins/libggml-base.so" "$bins/libllama-common.so" "$carry/llama/"
  cp "$bins"/libggml-cpu-{x64,haswell,skylakex,sapphirerapids}.so "$carry/llama/"
  g++ -std=c++17 -O1 -I"$scratch/source/include" -I"$scratch/source/ggml/include" "$root/tools/reference/llamacpp/speed.cpp" -o "$carry/llama/speed" \
    "$bins"/libllama.cuda.v*.so "$bins"/libggml.cuda.v*.so "$bins/libggml-base.so" \
    -Wl,-rpath,'$ORIGIN' -Wl,--unresolved-symbols=ignore-in-shared-libs
  if [ -n "${LLAMA_SERVER:-}" ]; then cp "$LLAMA_SERVER" "$carry/llama/llama-server"; else server "$scratch" "$bins"; fi
}

# slimmed SCRATCH LIBRARY: its code for the card alone, compiled by the release of ptxas that the library was built with.
slimmed() {
  python3 -m pip install -q --target "$1/site" zstandard==0.25.0
  python3 -m pip download -q --no-deps -d "$1" nvidia-cuda-nvcc==13.1.115 && python3 -m zipfile -e "$1"/nvidia_cuda_nvcc-*.whl "$1/nvcc"
  chmod +x "$1"/nvcc/nvidia/cu13/bin/*
  PYTHONPATH="$1/site" python3 "$here/slim.py" "$2" 90 "$carry/llama/libggml-cuda.so" "$1/nvcc/nvidia/cu13/bin"
}

# server SCRATCH BINS: llama.cpp's own server without its page, linked with the package's libraries.
server() (
  cd "$1"
  for x in h cpp; do sed -e 's/@N_ASSETS@/0/; s/@USE_GZIP@/false/; /cmakedefine/d; s/@[A-Z_]*@//' source/tools/ui/ui.$x.in >ui.$x; done
  v=source/vendor
  gcc -c -I$v/hash -I$v/hash/rotate-bits $v/hash/xxhash/xxhash.c $v/hash/sha256/sha256.c
  printf '%s\n' ui.cpp source/tools/server/*.cpp source/tools/mtmd/mtmd*.cpp source/tools/mtmd/clip.cpp source/tools/mtmd/models/*.cpp \
    $v/hash/hash.cpp | grep -v mtmd-cli | xargs -P "$(nproc)" -I{} sh -c 'g++ -std=c++17 -O1 -w -c -I. -Isource/include -Isource/src \
      -Isource/ggml/include -Isource/ggml/src -Isource/tools/mtmd -Isource/tools/mtmd/models -Isource/common -Isource/vendor \
      -Isource/vendor/hash -Isource/vendor/hash/rotate-bits {} -o server-$(echo {} | tr / -).o'
  g++ -w -Isource/vendor/hash -c -x c++ $v/hash/sha1/sha1.c -o sha1.o
  g++ -s -- *.o -o "$carry/llama/llama-server" "$2"/libllama-common.so "$2"/libllama.cuda.v*.so "$2"/libggml.cuda.v*.so "$2/libggml-base.so" \
    -lpthread -Wl,-rpath,'$ORIGIN' -Wl,--unresolved-symbols=ignore-in-shared-libs
)
if command -v npm >/dev/null && command -v g++ >/dev/null; then llama || echo "without llama.cpp: see above"; else
  echo "without llama.cpp: npm and g++ are needed to carry it"
fi
tar -C "$carry" -cJf "$carry/carry.tar.xz" bin lib llama transformers commit
rm -rf "$carry/bin" "$carry/lib" "$carry/llama" "$carry/transformers"
ls -l "$carry/carry.tar.xz"
