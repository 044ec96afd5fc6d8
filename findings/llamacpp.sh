#!/usr/bin/env bash
# llama.cpp b11549: a server of text reserves a third of its compute buffer for batches of tokens and embeddings that it never gets.
#
# Since October 2026 a graph has room for tokens among embeddings (inputs inp_mixed_tokens, inp_mixed_embd, inp_mixed_slots): it copies
# the embeddings and writes tokens' rows into the copy. Nothing reads that copy in a graph of text, so that the allocator never
# frees it. For Qwen3-VL-2B (four widths of embeddings, 512 tokens at once) the CPU's buffer grows from 84.02 to 108.02 MiB, and
# the model need not have a tower loaded.
#
# Run by hand: installs the pinned packages into a temporary folder, runs both on a header of full size over zeros, and fails where
# this is no longer so. Seen with xllamacpp 2026.9.11063 and 2026.10.11549, whose last numbers are llama.cpp's builds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2026.9.11063 2026.10.11549; do
  python3 -m pip install -q --no-deps --target "$folder/xl-$version" "xllamacpp==$version" 2>/dev/null
done
PYTHONPATH=$(dirname "$0")/../tools/reference/llamacpp python3 - "$folder" <<'PY'
import sys
import record_build as r

folder = sys.argv[1]
r.write("2b", folder + "/2b.gguf")
seen = [r.run(folder + "/xl-" + v, folder + "/2b.gguf", dict(n_ctx=8192, n_parallel=1)) for v in ("2026.9.11063", "2026.10.11549")]
for mib, inputs in seen:
    print("compute %.2f MiB, inputs %s" % (mib, inputs))
sys.exit([mib for mib, _ in seen] != [84.02, 108.02])
PY
