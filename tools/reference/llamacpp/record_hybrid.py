#!/usr/bin/env python3
"""Writes what a real llama.cpp reserves for random hybrid models and settings: record_hybrid.py SEED RUNS PROGRAM > OUT.jsonl

PROGRAM is reserve.cpp over a released library on the CPU. A line holds the model's config.json, the type of its matrices, the settings
by llama-server's names, and the bytes of cache and compute buffers.
"""
import json, os, random, sys, tempfile
import random_settings as rs


def main(seed, runs, program):
    rs.WAY, rs.TARGET = "reserve", os.path.abspath(program)
    rs.KINDS = ["qwen2_5_vl", "qwen3_5_text", "qwen3_5_moe_text"]
    draw = random.Random(seed)
    pick, chance = draw.choice, lambda share: draw.random() < share
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            path = os.path.join(folder, "model.gguf")
            name, config = rs.model(pick, chance, path, False)
            s = rs.settings(pick, chance, config)
            held, _ = rs.reserve(path, s)
            if held:
                cache, compute = (sum(h[i] for h in held.values()) for i in (1, 2))
                print(json.dumps(dict(config=config, type=name.split()[1], settings=s, cache=cache, compute=compute), sort_keys=True))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
