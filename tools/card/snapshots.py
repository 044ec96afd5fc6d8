#!/usr/bin/env python3
"""snapshots.py OUT [--device cuda|cpu] [--quick] [--seconds N]: record the allocations of real Qwen3-VL classes on a card.

Random weights; the 2B model at its real widths and depth, 4B and 8B with fewer layers. Each run writes OUT/NAME.pickle, a
snapshot of torch.cuda.memory with full history, and a line of OUT/runs.jsonl: what was run, and what torch says of the memory.
On the CPU, where PyTorch keeps no such history, the profiler's record is written instead (tools/reference/record.py), so that
everything but the recorder itself is tried without a card. --quick keeps two layers of everything. Runs go from the most to
the least telling and stop when the time is up.
"""
import argparse
import json
import os
import pickle
import sys
import time

import torch
import transformers
from transformers import initialization

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
import record as reference  # noqa: E402

reference.WIDTHS["8b"] = dict(hidden_size=4096, num_attention_heads=32, num_key_value_heads=8, intermediate_size=12288)
reference.TOWERS["8b"] = reference.LARGE_TOWER
FULL = dict(layers=28, depth=24, deepstack="5,11,17")
PART = dict(layers=4, depth=4, deepstack="0,1,2")
BASE = dict(model="2b", image="640x480", images=1, frames=0, text=30, steps=8, batch=1, dtype="bf16", attention="sdpa",
            cache="dynamic", experts=0, expandable=False)


def runs():
    """What is recorded, the most telling first; a run differs from BASE in what it names."""
    yield dict(name="2b", **FULL)
    yield dict(name="2b-1920x1088", image="1920x1088", **FULL)
    yield dict(name="2b-batch", batch=2, images=2, image="512x512", **FULL)
    yield dict(name="2b-decode", steps=64, **FULL)
    yield dict(name="2b-fp16", dtype="fp16", **FULL)
    yield dict(name="2b-eager", attention="eager", **FULL)
    yield dict(name="2b-expandable", expandable=True, **FULL)
    yield dict(name="4b", model="4b", **PART)
    yield dict(name="8b", model="8b", **PART)
    yield dict(name="8b-1280x704", model="8b", image="1280x704", **PART)
    yield dict(name="2b-static", cache="static", **FULL)
    yield dict(name="2b-video", image="320x256", frames=8, **FULL)
    yield dict(name="30b-a3b", model="30b-a3b", experts=16, **PART)
    yield dict(name="4b-expandable-1920x1088", model="4b", image="1920x1088", expandable=True, **PART)
    yield dict(name="4b-800x608", model="4b", image="800x608", **PART)
    yield dict(name="4b-1024x1024", model="4b", image="1024x1024", steps=4, **PART)
    yield dict(name="4b-1440x1088-fp16", model="4b", image="1440x1088", dtype="fp16", steps=4, **PART)
    yield dict(name="2b-2048x1536", image="2048x1536", steps=4, **PART)
    yield dict(name="8b-batch-3", model="8b", image="640x960", batch=3, images=2, steps=4, **PART)
    yield dict(name="2b-long", image="320x256", text=5000, steps=4, **PART)
    yield dict(name="4b-eager-fp16", model="4b", attention="eager", dtype="fp16", steps=4, **PART)
    yield dict(name="30b-a3b-batch", model="30b-a3b", experts=32, batch=2, image="512x512", steps=4, **PART)
    yield dict(name="2b-static-1280x704", cache="static", image="1280x704", steps=4, **PART)


def generate(model, given, o):
    settings = dict(max_new_tokens=o["steps"] + 1, min_new_tokens=o["steps"] + 1, do_sample=False, pad_token_id=0, use_cache=True)
    if o["cache"] == "static":
        settings |= dict(cache_implementation="static", disable_compile=True)
    with torch.no_grad():
        model.generate(**given, **settings)


def build(device, *settings):
    """A model with weights of no meaning: a million random values over and over, a second where drawing all takes a minute."""
    with initialization.no_init_weights(), torch.device(device):
        model = reference.build(*settings)
    values = torch.randn(1 << 20, device=device) * 0.02
    for name, p in model.named_parameters():
        flat = p.data.view(-1)
        if p.dim() == 1:
            flat.fill_(1 if name.endswith("weight") else 0)
            continue
        for part in flat.split(values.numel()):
            part.copy_(values[:part.numel()])
    return model


def prepare(o, device):
    """A model and its inputs on the device, warmed up so that libraries hold their workspaces."""
    model = build(device, o["model"], o["layers"], o["depth"], [int(v) for v in o["deepstack"].split(",")],
                  o["experts"], "eager" if o["attention"] == "eager" else "sdpa", o["dtype"])
    warm = {k: v.to(device) for k, v in reference.inputs(model.config, 64, 64, 1, o["frames"] and 2, 4, o["batch"]).items()}
    generate(model, warm, dict(o, steps=1))
    model.model.rope_deltas = None
    width, height = (int(v) for v in o["image"].split("x"))
    given = reference.inputs(model.config, width, height, o["images"], o["frames"], o["text"], o["batch"])
    return model, {k: v.to(device) for k, v in given.items()}


def empty():
    """Gives the caching allocator's blocks back: a snapshot then begins with what the model holds."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


def paced(model, given, o):
    """Seconds to the first token, image and prompt included, and of all the steps; the second of two turns, unrecorded."""
    if o["steps"] < 1:
        return None
    seconds = {}
    for steps in (0, 0, o["steps"], o["steps"]):
        model.model.rope_deltas = None
        torch.cuda.synchronize()
        begun = time.perf_counter()
        generate(model, given, dict(o, steps=steps))
        torch.cuda.synchronize()
        seconds[steps] = time.perf_counter() - begun
    model.model.rope_deltas = None
    return dict(first_token_s=seconds[0], decode_tokens_per_s=o["steps"] / (seconds[o["steps"]] - seconds[0]),
                prompt_tokens=given["input_ids"].shape[1])


def on_card(o, out):
    torch.cuda.memory._set_allocator_settings(f"expandable_segments:{o['expandable']}")
    model, given = prepare(o, "cuda")
    pace = paced(model, given, o)
    empty()
    before = torch.cuda.memory_stats()
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=2_000_000)
    generate(model, given, o)
    torch.cuda.synchronize()
    save(os.path.join(out, o["name"] + ".pickle"))
    after = torch.cuda.memory_stats()
    picked = ("allocated_bytes.all.peak", "reserved_bytes.all.peak", "requested_bytes.all.peak", "allocation.all.allocated")
    begin = ("active.all.current", "allocated_bytes.all.current", "reserved_bytes.all.current")
    return {k: after[k] for k in picked} | {"begin": {k: before[k] for k in begin}, "pace": pace}


def save(path):
    snapshot = torch.cuda.memory._snapshot()
    torch.cuda.memory._record_memory_history(enabled=None)
    with open(path, "wb") as f:
        pickle.dump(snapshot, f)


def on_cpu(o, out):
    torch.set_num_threads(1)
    model, given = prepare(o, "cpu")
    reference.mark_phases(model)
    steps = list(reference.steps_of(reference.record(model, given, o["steps"], o["cache"], False)))
    width, height = o["image"].split("x")
    header = {k: o[k] for k in ("layers", "depth", "deepstack", "experts", "images", "frames", "text", "steps", "batch", "dtype",
                                "attention", "cache")}
    header |= dict(model="qwen3-vl-" + o["model"], width=width, height=height, device="cpu", threads=1)
    reference.write(os.path.join(out, o["name"] + ".txt.gz"), header, steps)
    return {"allocation.all.allocated": sum(s[0] == "a" for s in steps)}


def graph_and_pool(out):
    """A captured graph with its private pool, and a MemPool of its own."""
    layer = torch.nn.Linear(2048, 6144, dtype=torch.bfloat16, device="cuda")
    x = torch.zeros(8, 2048, dtype=torch.bfloat16, device="cuda")
    layer(x)
    empty()
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=100_000)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        for _ in range(8):
            y = torch.relu(layer(x))
    graph.replay()
    pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool):
        held = [torch.empty(n << 20, dtype=torch.uint8, device="cuda") for n in (1, 3, 12, 30)]
    del held[1]
    torch.cuda.synchronize()
    save(os.path.join(out, "graph-and-pool.pickle"))
    del y, held, pool


def streams(out):
    """Two streams that hand tensors to one another."""
    a, b = torch.cuda.Stream(), torch.cuda.Stream()
    empty()
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=100_000)
    for i in range(40):
        with torch.cuda.stream(a):
            x = torch.empty((1 + i % 7) << 20, dtype=torch.uint8, device="cuda").zero_()
        b.wait_stream(a)
        with torch.cuda.stream(b):
            y = x + 1
            x.record_stream(b)
        del x
        if i % 3 == 0:
            del y
    torch.cuda.synchronize()
    save(os.path.join(out, "two-streams.pickle"))


def out_of_memory(out):
    """An allocation refused at a share of the card that this process is given."""
    free, total = torch.cuda.mem_get_info()
    empty()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (2 << 30)) / total)
    torch.cuda.memory._record_memory_history(context="alloc", stacks="python", max_entries=100_000)
    held, said = [], ""
    try:
        for i in range(1000):
            held.append(torch.empty((37 + i % 5) << 20, dtype=torch.uint8, device="cuda"))
            if i % 4 == 3:
                held[-2] = None
    except torch.cuda.OutOfMemoryError as e:
        said = str(e)
    save(os.path.join(out, "out-of-memory.pickle"))
    torch.cuda.set_per_process_memory_fraction(1.0)
    return said


def note(out, entry):
    with open(os.path.join(out, "runs.jsonl"), "a") as f:
        f.write(json.dumps(entry) + "\n")
    print(entry["name"], entry.get("error") or "recorded", flush=True)


def attempt(out, name, what, **settings):
    begun = time.monotonic()
    try:
        seen = what()
    except Exception as e:  # one run that fails leaves the others their turn
        seen, settings["error"] = None, f"{type(e).__name__}: {e}"[:500]
    note(out, dict(name=name, seconds=round(time.monotonic() - begun, 1), seen=seen, **settings))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--runs", help="only these, by name and comma; without a graph, pools and streams")
    o = parser.parse_args()
    os.makedirs(o.out, exist_ok=True)
    end = time.monotonic() + o.seconds
    torch.manual_seed(0)
    card = torch.cuda.get_device_name() if o.device == "cuda" else "none"
    note(o.out, dict(name="versions", torch=torch.__version__, transformers=transformers.__version__, card=card, device=o.device))
    if o.device == "cuda" and not o.runs:
        for name, what in (("out-of-memory", out_of_memory), ("graph-and-pool", graph_and_pool), ("two-streams", streams)):
            attempt(o.out, name, lambda: what(o.out))
    for run in runs():
        if o.runs and run["name"] not in o.runs.split(","):
            continue
        if time.monotonic() > end:
            note(o.out, dict(name=run["name"], error="left out: the time was up"))
            continue
        settings = BASE | run
        if o.quick:
            settings |= dict(layers=2, depth=2, deepstack="0", image="320x256", steps=min(settings["steps"], 4))
        attempt(o.out, run["name"], lambda: (on_card if o.device == "cuda" else on_cpu)(settings, o.out), settings=settings)
        if o.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
