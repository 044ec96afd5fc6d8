#!/usr/bin/env bash
# accelerate 1.15.0: limits in max_memory that hold the whole model together send a part of it to the disk without an error.
#
# As soon as not everything fits the card, room for the largest layer left is kept free on it, so that the host must hold that much
# more than model less card. Nothing is said where it cannot: the rest goes to the disk. And a card's key is a number: a JSON
# object's "0" is refused, which is what a settings file has.
#
# Run by hand: installs the pinned packages into a temporary folder, runs them, and fails where this is no longer so. Seen with torch
# 2.15.0 and transformers 5.24.0: 18 of 36 blocks on the card, 16 on the host and 2 on the disk, of limits that together are 100 MiB
# more than the model.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q accelerate==1.15.0 transformers==5.24.0 torch==2.15.0
  PYTHON=$folder/venv/bin/python
fi
"$PYTHON" - <<'PY'
import torch
from accelerate import init_empty_weights
from accelerate.utils import compute_module_sizes, modeling

MIB = 1 << 20


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(10 * 1024, 10 * 1024, bias=False, dtype=torch.float16)  # 200 MiB


with init_empty_weights():
    model = torch.nn.Sequential(*[Block() for _ in range(36)])
total = compute_module_sizes(model)[""]
real = modeling.get_max_memory
try:
    real({"0": 1 << 30})
    refused = False
except ValueError as e:
    refused = True
    print("a key of text:", e)
modeling.get_max_memory = lambda given: given  # no card is here to be asked
card = 19 * 200 * MIB + 100 * MIB
placed = modeling.infer_auto_device_map(model, {0: card, "cpu": total - card + 100 * MIB}, no_split_module_classes=["Block"])
where = [placed[str(i)] for i in range(36)]
print("model %d MiB, limits together %d MiB: %d blocks on the card, %d on the host, %d on the disk" % (
    total / MIB, total / MIB + 100, where.count(0), where.count("cpu"), where.count("disk")))
assert refused and where.count("disk") > 0, "this has changed"
PY
