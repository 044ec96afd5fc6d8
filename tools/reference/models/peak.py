#!/usr/bin/env python3
"""Records the most bytes that one generate() holds, weights not counted: peak.py CONFIG TOKENS DTYPE.

The config.json is that of a narrow decoder; weights are random. Prints the peak and the count of allocations under
torch's profiler on one thread of the CPU.
"""
import json, sys
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM


def events(model, tokens):
    ids = torch.randint(0, 90, (1, tokens))
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=2, do_sample=False,
                       eos_token_id=None, pad_token_id=0)
    found = [e for e in p.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [e.nbytes() for e in sorted(found, key=lambda e: e.start_ns())]


def main(path, tokens, dtype):
    torch.set_num_threads(1)
    config = AutoConfig.for_model(**json.load(open(path)))
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).eval()
    live = peak = count = 0
    for n in events(model, int(tokens)):
        live += n
        count += n > 0
        peak = max(peak, live)
    print("peak %d, allocations %d" % (peak, count))


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
