"""Gives what `vlmem advise --for transformers` writes to from_pretrained, to the image processor and to generate().

    VLMEM=./vlmem python transformers_reads.py

Twice: a model of the same layers and a small width is loaded with the file's arguments, cards taken for the CPU, and writes a token; and
the model of the true widths is placed on the meta device by transformers and accelerate under the file's max_memory. Exits with 1 where
an argument is refused or has no effect, where a module goes elsewhere than transformers.json's device_map says, or to the disk.
"""
import json
import logging
import os
import sys
import tempfile

import torch
from accelerate import init_empty_weights
from accelerate.utils import modeling
from served import CARDS, MODELS, bundles, save, tell
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.integrations.accelerate import _get_device_map
from transformers.quantizers.auto import AutoQuantizationConfig
from transformers.utils.logging import disable_progress_bar

modeling.get_max_memory = lambda given=None: given  # no card is asked how much it has


def load(path, arguments, files):
    """What from_pretrained, the processor and generate() make of the file with a narrow model, "" for what was meant."""
    own = dict(arguments, pretrained_model_name_or_path=path)
    if "quantization_config" in own:  # nothing here runs its kernels
        AutoQuantizationConfig.from_dict(dict(own.pop("quantization_config")))
    own["device_map"], own["max_memory"] = {"": "cpu"}, {"cpu": "64GiB"}
    model = AutoModelForImageTextToText.from_pretrained(**own)
    processor = AutoProcessor.from_pretrained(path)
    for name, value in files["IMAGE_PROCESSOR"].items():
        setattr(processor.image_processor, name, value)
    grid = processor.image_processor(images=torch.zeros(3, 3000, 4000, dtype=torch.uint8), return_tensors="pt")["image_grid_thw"]
    limit = files["IMAGE_PROCESSOR"].get("size", {}).get("longest_edge", 1 << 62)
    if int(grid.prod()) * 256 > limit:
        return "an image of %d pixels passes a limit of %d" % (int(grid.prod()) * 256, limit)
    if str(model.dtype) != "torch." + arguments["dtype"]:
        return "loaded as %s, written %s" % (model.dtype, arguments["dtype"])
    if model.config._attn_implementation != arguments["attn_implementation"]:
        return "attention is " + model.config._attn_implementation
    generate = dict(files["GENERATE"], disable_compile=True)  # which takes a compiler
    said = model.generate(input_ids=torch.tensor([[1, 2, 3]]), max_new_tokens=2, do_sample=False, return_dict_in_generate=True,
                          **generate)
    kind = type(said.past_key_values).__name__
    if ("Static" in kind) != (generate.get("cache_implementation") == "static"):
        return "the cache is a " + kind
    return ""


def place(config, arguments, wanted):
    """Where the modules of the true model go under max_memory, and where they were said to, "" where that is the same."""
    with init_empty_weights():
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, arguments["dtype"]))
    model.tie_weights()
    placed = _get_device_map(model, arguments["device_map"], arguments["max_memory"], None)
    if "disk" in placed.values():
        return "%d modules go to the disk" % list(placed.values()).count("disk")
    for name in wanted:
        where = [v for k, v in placed.items() if name == k or name.startswith(k + ".") or k.startswith(name + ".") or k == ""]
        parameters = any(p == name or p.startswith(name + ".") for p, _ in model.named_parameters())
        if parameters and set(where) != {wanted[name]}:
            return "%s goes to %s, said %s" % (name, where, wanted[name])
    return ""


def main():
    logging.disable(logging.WARNING)
    disable_progress_bar()
    files = bad = split = 0
    for card, model, limits, bundle in bundles("transformers"):
        text = {f["name"]: f["content"] for f in bundle["files"]}
        written = {}
        exec(text["transformers.py"], written)  # its import of torch and the tables; nothing is loaded before load()
        arguments = written["FROM_PRETRAINED"]
        stated = json.loads(text["transformers.json"])["from_pretrained"]
        shape = MODELS[model]
        narrow = (64, 128, shape[2], 4, 2, shape[5], 64, 128, max(shape[9]) + 1, shape[9])
        with tempfile.TemporaryDirectory() as folder:
            save(folder, narrow)
            config = AutoConfig.from_pretrained(folder)
            AutoModelForImageTextToText.from_config(config, dtype=torch.float32).save_pretrained(folder)
            try:
                differs = load(folder, arguments, written)
            except (TypeError, ValueError, AttributeError) as error:
                differs = "refused: %s" % error
            if not differs and "max_memory" in arguments:
                split += 1
                save(folder, shape)
                differs = place(AutoConfig.from_pretrained(folder), arguments, stated["device_map"])
        files, bad = files + 1, bad + bool(differs)
        print(files, card, model, *limits, differs or "taken", file=sys.stderr, flush=True)
    print(split, "of them split between card and host")
    tell(files, bad)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
