#!/usr/bin/env python3
"""pluggable.py OUT.json [--device cuda|cpu] [--driver LIBRARY]: a real generate() on the memory of vlmem's Python module.

Random weights, two layers of Qwen3-VL-2B at its real widths, an image, 64 tokens unless told. On a card the same program runs in two
processes, one with PyTorch's allocator and one with vlmem.card plugged in: tokens and logits must be equal bit for bit, and
the turns' seconds, the blocks taken and what NVML says of the process are kept. On the CPU, where no allocator can be plugged
in, generate() runs in turns with transformers' cache and with VlmemCache, and vlmem.card is called as PyTorch would on the
driver library that --driver names. The module and torch must be importable.
"""
import argparse
import ctypes
import hashlib
import json
import os
import resource
import subprocess
import sys
import time

import torch
import transformers

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference")]

def model_and_inputs(device):
    import record
    import snapshots
    torch.manual_seed(1)
    model = snapshots.build(device, "2b", 2, 2, [0, 1], 0, "sdpa", "fp32" if device == "cpu" else "bf16")
    given = record.inputs(model.config, *((64, 64) if device == "cpu" else (640, 480)), 1, 0, 12, 1)
    return model, {k: v.to(device) for k, v in given.items()}


def turn(model, given, cache, new):
    model.model.rope_deltas = None
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    with torch.no_grad():
        out = model.generate(**given, past_key_values=cache, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
                             output_logits=True, return_dict_in_generate=True)
    tokens, logits = out.sequences.cpu(), torch.stack(out.logits).float().cpu()
    seen = dict(seconds=time.perf_counter() - begun, minor_faults=resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
    return seen, tokens, logits


def caches(turns, new):
    """Turns with both caches one after the other; the first of each warms up and does not count."""
    import vlmem
    model, given = model_and_inputs("cpu")
    seen, equal = {"transformers": [], "vlmem": []}, True
    with vlmem.create_memory_optimized_model_context() as optimizer:
        cache = vlmem.VlmemCache(optimizer, model.config, max_cache_len=given["input_ids"].shape[1] + new)
        for i in range(turns + 1):
            theirs, tokens, logits = turn(model, given, None, new)
            ours, own_tokens, own_logits = turn(model, given, cache, new)
            cache.reset()
            equal = equal and torch.equal(tokens, own_tokens) and torch.equal(logits, own_logits)
            if i:
                seen["transformers"].append(theirs)
                seen["vlmem"].append(ours)
        pool = next(p for p in optimizer.statistics() if p["pool"] == "kv_cache")
    return dict(turns=seen, equal=equal, pool=pool)


def called(driver):
    """What PyTorch calls, on a driver library: blocks of many sizes on the default stream."""
    import vlmem
    from vlmem import card
    if torch.version.cuda:
        card.allocator()  # torch's object is made; only a card can be given it
    card.open(library=driver)
    take, give = vlmem._lib.vlmem_torch_malloc, vlmem._lib.vlmem_torch_free
    take.restype, take.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
    give.restype, give.argtypes = None, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
    live = []
    for i in range(2000):
        size = 1 + i * 7919 % (1 << 20)
        live.append((take(size, 0, None), size))
        if i % 3:
            give(*live.pop(i % len(live)), 0, None)
    for block, size in live:
        give(block, size, 0, None)
    vlmem._lib.vlmem_torch_trim()
    seen = card.statistics()
    card.close()
    return seen


def child(allocator, turns, new):
    """generate() on the card with one allocator; a line of JSON."""
    import context
    if allocator == "vlmem":
        from vlmem import card
        card.use()
    model, given = model_and_inputs("cuda")
    seen = [turn(model, given, None, new) for _ in range(turns + 1)]
    digest = hashlib.sha256(seen[-1][1].numpy().tobytes() + seen[-1][2].numpy().tobytes()).hexdigest()
    told = dict(turns=[s[0] for s in seen[1:]], sha256=digest, **context.by_nvml()())
    if allocator == "vlmem":
        told["pool"] = card.statistics()
    else:
        told["reserved_bytes"] = torch.cuda.max_memory_reserved()
    print(json.dumps(told))


def on_card(turns, new):
    told = {}
    for allocator in ("torch", "vlmem"):
        out = subprocess.run([sys.executable, __file__, "-", "--child", allocator, "--turns", str(turns),
                              "--tokens", str(new)], capture_output=True, text=True)
        if out.returncode != 0:
            print(out.stderr[-4000:], file=sys.stderr)
            raise SystemExit(f"generate() with the allocator of {allocator} ended with {out.returncode}")
        told[allocator] = json.loads(out.stdout.splitlines()[-1])
    return dict(allocators=told, equal=told["torch"]["sha256"] == told["vlmem"]["sha256"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--driver", default="")
    parser.add_argument("--child", choices=["torch", "vlmem"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64)
    o = parser.parse_args()
    if o.child:
        return child(o.child, o.turns, o.tokens)
    result = dict(torch=torch.__version__, transformers=transformers.__version__, device=o.device, new_tokens=o.tokens)
    result |= on_card(o.turns, o.tokens) if o.device == "cuda" else caches(o.turns, o.tokens) | dict(card=called(o.driver))
    with open(o.out, "w") as f:
        json.dump(result, f, indent=1)
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
