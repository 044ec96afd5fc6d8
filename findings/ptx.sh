#!/usr/bin/env bash
# npm's CUDA build of llama.cpp holds no machine code for A100, H100 and T4, and PTX that driver 580 refuses.
#
# Seen with @node-llama-cpp/linux-x64-cuda 3.22.1 (llama.cpp v0.5.0, built with CUDA 13.1): of the seven architectures in
# libggml-cuda.so, 86, 89, 120 and 121 are machine code, 75, 80 and 90 PTX alone, of version 9.1. A driver compiles PTX up to its own
# CUDA: on an H100 with driver 580.159 (CUDA 13.0, PTX 9.0) the first kernel ends with "CUDA error: unknown error", although the
# same driver runs machine code of CUDA 13.1. A newer driver (590), or a build with machine code for the card, runs.
# Needs npm and python3 with zstandard (installed into the folder). Fails where the package's code is otherwise.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
npm pack --silent @node-llama-cpp/linux-x64-cuda@3.22.1 >/dev/null && tar xzf ./*.tgz
python3 -m pip install -q --target site zstandard==0.25.0
PYTHONPATH=site python3 - package/bins/linux-x64-cuda/libggml-cuda.so <<'PYTHON'
import struct, sys, zstandard
data, at, kinds, versions = open(sys.argv[1], "rb").read(), 0, {}, set()
while (at := data.find(struct.pack("<I", 0xBA55ED50), at)) >= 0:
    header, body = struct.unpack_from("<HQ", data, at + 6)
    entry, end = at + header, at + header + body
    while header == 16 and entry < end <= len(data):
        kind, _, head, size, packed = struct.unpack_from("<HHIQI", data, entry)
        arch, = struct.unpack_from("<I", data, entry + 28)
        kinds.setdefault(arch, set()).add({1: "PTX", 2: "machine code"}[kind])
        if kind == 1 and packed:
            text = zstandard.ZstdDecompressor().decompress(data[entry + head:entry + head + packed], 1 << 26)
            versions.add(text.split(b".version ")[1].split()[0].decode())
        entry += head + size
    at += 16
for arch in sorted(kinds):
    print(f"sm_{arch}: {', '.join(sorted(kinds[arch]))}")
print("PTX of version", ", ".join(sorted(versions)))
want = {75: {"PTX"}, 80: {"PTX"}, 90: {"PTX"}, 86: {"machine code"}, 89: {"machine code"}, 120: {"machine code"}, 121: {"machine code"}}
sys.exit(0 if kinds == want and versions == {"9.1"} else "otherwise than on 2026-11-28")
PYTHON
