#!/usr/bin/env python3
"""Counts parameters on the meta device: meta.py CONFIG...

For each config.json prints its path, all parameters, and those of the image tower with what joins it to the decoder.
Tied weights count once. Needs transformers and torch; nothing is allocated.
"""
import json, sys
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

TOWER = ("visual", "vision", "multi_modal_projector", "merger", "connector")


def model(config):
    with torch.device("meta"):
        try:
            return AutoModelForImageTextToText.from_config(config)
        except ValueError:
            pass
        if config.model_type == "qwen3_omni_moe":
            return transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config.thinker_config)
        return AutoModelForCausalLM.from_config(config)


def main(paths):
    for path in paths:
        values = json.load(open(path))
        values.pop("quantization_config", None)
        values.pop("auto_map", None)
        config = AutoConfig.for_model(**values) if "model_type" in values else None
        m = model(config)
        m.tie_weights()
        seen, total, tower = set(), 0, 0
        for name, p in m.named_parameters():
            if id(p) in seen:
                continue
            seen.add(id(p))
            total += p.numel()
            if any(t in name for t in TOWER):
                tower += p.numel()
        print("%s,%d,%d" % (path, total, tower))


if len(sys.argv) < 2:
    sys.exit(__doc__)
main(sys.argv[1:])
