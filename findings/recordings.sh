#!/bin/bash
# PyTorch 2.15.0: what its settings of the caching allocator do that their documentation does not say. Installs torch in a
# temporary folder (some gigabytes), runs it without a card and without vlmem, and fails where the behaviour changes.
#
#   PYTORCH_CUDA_ALLOC_CONF, even set to nothing, wins over PYTORCH_ALLOC_CONF, whose settings are then ignored in silence.
#   max_split_size_mb takes 100abc as 100 and -1 as a size that is never reached, without a word.
#   roundup_power2_divisions:0 is refused, [256:0] is taken.
#
# Seen with torch 2.15.0 of PyPI, Python 3.11:
#   empty old name: ''
#   max_split_size_mb:100abc taken, max_split_size_mb:-1 taken
#   roundup_power2_divisions:0 refused, roundup_power2_divisions:[256:0] taken
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 numpy
python=$folder/venv/bin/python
got=$(PYTORCH_ALLOC_CONF=max_split_size_mb:64 PYTORCH_CUDA_ALLOC_CONF= "$python" -c '
import torch
print(torch._C._accelerator_getAllocatorSettings())' 2>/dev/null | tail -1)
echo "empty old name: '$got'"
[ -z "$got" ] || { echo "changed: the new name is read now"; exit 1; }
"$python" - <<'EOF'
import sys, torch
def taken(conf):
    try:
        torch._C._accelerator_setAllocatorSettings(conf)
        return True
    except Exception:
        return False
seen = {c: taken(c) for c in ["max_split_size_mb:100abc", "max_split_size_mb:-1", "roundup_power2_divisions:0",
                              "roundup_power2_divisions:[256:0]"]}
for conf, yes in seen.items():
    print(conf, "taken" if yes else "refused")
sys.exit(list(seen.values()) != [True, True, False, True])
EOF
