#!/usr/bin/env python3
"""pluggable.py ROOT OUT.json [--device cuda|cpu]: a real generate() with the cache of the Python module of checkout ROOT.

Random weights, two layers of Qwen3-VL-2B at its real widths, 64 tokens, in turns with transformers' own cache: seconds of each
turn, whether tokens and logits are equal bit for bit, the kv_cache pool's counters, and page faults. The module is imported
where it is installed, and else from ROOT/python (with the library built there). Its pools lie in host memory: on a card the
same run is made by the processor, and "card" says that the module gives torch no allocator for it.
"""
import argparse
import json
import os
import resource
import sys
import time

import torch
import transformers


def turn(model, given, cache, new):
    model.model.rope_deltas = None
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
    with torch.no_grad():
        out = model.generate(**given, past_key_values=cache, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0,
                             output_logits=True, return_dict_in_generate=True)
    seconds = time.perf_counter() - begun
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return dict(seconds=seconds, minor_faults=faults), out.sequences, torch.stack(out.logits)


def compare(model, given, vlmem, new, turns):
    """Turns of both caches one after the other; the first of each warms up and does not count."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--turns", type=int, default=3)
    o = parser.parse_args()
    sys.path += [os.path.join(o.root, "python")]
    sys.path.insert(0, os.path.join(o.root, "tools", "reference"))
    try:
        import vlmem
    except ImportError as absent:
        print(absent)
        return 3  # as run.sh counts what is not here
    import record
    torch.manual_seed(1)
    model = record.build("2b", 2, 2, [0, 1], 0, "sdpa", "fp32")
    result = dict(torch=torch.__version__, transformers=transformers.__version__, device="cpu", new_tokens=64)
    if o.device == "cuda":
        result["card"] = "no allocator: the module's pools lie in host memory"
    result |= compare(model, record.inputs(64, 64, 1, 0, 12, 1), vlmem, 64, o.turns)
    with open(o.out, "w") as f:
        json.dump(result, f, indent=1)
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
