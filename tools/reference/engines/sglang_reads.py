"""Gives what `vlmem advise --for sglang` writes to SGLang's own parser and lets ServerArgs resolve, under torch that reports a named card.

    VLMEM=./vlmem python sglang_reads.py

Every file, and the release's own settings of every card and model. Compiled extensions and optional libraries are stubs. Exits with 1 where
a file is refused, what is resolved is not what was written, or the share, the chunk and the largest captured batch that the release
takes by itself differ from the estimate's.
"""
import functools
import gc
import logging
import math
import os
import re
import sys
import tempfile
import types

from served import CARDS, MODELS, Stubs, bundles, save, tell, vlmem

STUBBED = ("sgl_kernel", "sglang_kernel", "uvloop", "pynvml", "flashinfer", "xgrammar", "outlines", "llguidance", "IPython", "tvm_ffi",
           "loguru", "gguf")

sys.meta_path.insert(0, Stubs(STUBBED))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

CARD = {"name": "NVIDIA GeForce RTX 3090", "capability": (8, 6), "bytes": 25447170048, "smi": 24576}

torch.cuda.is_available = lambda: True
torch.cuda.is_initialized = lambda: True
torch.cuda.device_count = lambda: 8
torch.cuda.current_device = lambda: 0
torch.cuda.get_device_capability = lambda *args, **kwargs: CARD["capability"]
torch.cuda.get_device_name = lambda *args, **kwargs: CARD["name"]
torch.cuda.mem_get_info = lambda *args, **kwargs: (CARD["bytes"], CARD["bytes"])
torch.cuda.get_device_properties = lambda *args, **kwargs: types.SimpleNamespace(
    total_memory=CARD["bytes"], name=CARD["name"], major=CARD["capability"][0], minor=CARD["capability"][1], multi_processor_count=82,
    is_integrated=False)

import sglang.srt.utils.common as common  # noqa: E402
from sglang.srt.server_args import prepare_server_args  # noqa: E402

common.get_nvgpu_memory_capacity = lambda: CARD["smi"] or CARD["bytes"] / (1 << 20)

# MiB that nvidia-smi says of a card; it says nothing of one that shares the host's memory.
SMI = {"t4": 15360, "rtx-3090": 24576, "rtx-4060": 8188, "rtx-5090": 32607, "a100-80gb": 81920, "h200": 143771, "b200": 183359}

# What a file says under a name of ServerArgs; model and share are looked at apart.
WRITTEN = ("dtype", "quantization", "context_length", "max_running_requests", "chunked_prefill_size", "tp_size", "pp_size", "dp_size", "kv_cache_dtype",
           "served_model_name", "mem_fraction_static")


def forget():
    """What was asked of the card before is asked anew."""
    for f in gc.get_objects():
        if isinstance(f, functools._lru_cache_wrapper) and (f.__module__ or "").startswith("sglang"):
            f.cache_clear()


def resolve(arguments):
    forget()
    server = prepare_server_args(arguments)
    server.resolve_once()
    return server.resolved_dict()


def compare(bundle, folder):
    """What differs between the file and what ServerArgs makes of it, "" for nothing."""
    path = os.path.join(folder, "sglang.yaml")
    content = next(f["content"] for f in bundle["files"] if f["name"] == "sglang.yaml")
    with open(path, "w") as f:
        f.write(re.sub(r"^model-path: .*$", 'model-path: "%s"' % folder, content, flags=re.M))
    try:
        resolved = resolve(["--config", path])
    except SystemExit:
        return "the parser refuses the file"
    differs = []
    for name in WRITTEN:
        m = re.search("^%s: (.*?)(?:  #.*)?$" % name.replace("_", "-"), content, flags=re.M)
        if m and str(resolved[name]) != m[1].strip('"'):
            differs.append("%s is %s, written %s" % (name, resolved[name], m[1]))
    return "; ".join(differs)


def own(card, model, folder):
    """What differs between the release's own share, chunk and captured batch and the estimate's."""
    resolved = resolve(["--model-path", folder])
    estimate = vlmem("estimate", "--engine", "sglang", "--hardware", card, "--model", model)
    why = {i["name"]: i["why"] for i in estimate["items"]}
    share = float(re.search(r"static share ([0-9.]+)", why["KV cache"])[1])
    graphs = resolved["cuda_graph_config"]["decode"]["max_bs"]
    chunk, captured = map(int, re.search(r"chunk of (\d+) tokens, CUDA graphs of up to (\d+)", why["compute"]).groups())
    seen = (resolved["mem_fraction_static"], resolved["chunked_prefill_size"], graphs)
    if math.isclose(share, seen[0], abs_tol=0.0015) and (chunk, captured) == seen[1:]:
        return ""
    return "share %.4f, chunk %d, %d captured; SGLang has %.4f, %d, %d" % (share, chunk, captured, *seen)


def main():
    logging.disable(logging.WARNING)
    files = bad = 0
    for card, model, limits, bundle in bundles("sglang"):
        name, capability, size = CARDS[card]
        CARD.update(name=name, capability=capability, bytes=size, smi=SMI.get(card))
        with tempfile.TemporaryDirectory() as folder:
            save(folder, MODELS[model])
            differs = compare(bundle, folder) or (not limits and own(card, model, folder)) or ""
        files, bad = files + 1, bad + bool(differs)
        print(files, card, model, *limits, differs or "taken", file=sys.stderr, flush=True)
    tell(files, bad)


if __name__ == "__main__":
    main()
