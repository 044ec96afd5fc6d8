#!/usr/bin/env python3
"""Record every allocation that transformers' Qwen3-VL and its relatives make on a CPU, with random weights.

    python3 -m venv /tmp/ref && /tmp/ref/bin/pip install torch transformers
    /tmp/ref/bin/python record.py --model 4b --image 1024x1024 --dtype fp32 -o 4b-1024x1024-fp32.txt.gz

torch's profiler reports each allocation and each free of the CPU allocator, with address and exact bytes, in order;
this program pairs them and writes one line each. What was allocated before recording (weights, the inputs) is left out,
and so are frees of it. The widths are the published ones; --layers and --depth cut how often the alike layers repeat,
so that a recording needs minutes and not the memory of the whole model. The first layers, which deepstack feeds, are
kept, and the header says what was kept. With --config the model is that of a config.json of the family, widths and all,
and the header holds it whole: shapes.py draws such models and requests.

A recording is a trace in vlmem's own format (docs/trace-format.md): phases prepare, vision, prefill and decode, each
allocation with the innermost operator that was running as its tag, and in its name what was run, as key=value.
"""

import argparse
import gzip
import json
import os
import platform
import tempfile

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import (
    AutoConfig, AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration,
)

# Widths as in config.json of the published checkpoints.
SMALL_TOWER = dict(hidden_size=1024, num_heads=16, intermediate_size=4096)
LARGE_TOWER = dict(hidden_size=1152, num_heads=16, intermediate_size=4304)
WIDTHS = {
    "2b": dict(hidden_size=2048, num_attention_heads=16, num_key_value_heads=8, intermediate_size=6144),
    "4b": dict(hidden_size=2560, num_attention_heads=32, num_key_value_heads=8, intermediate_size=9728),
    "30b-a3b": dict(hidden_size=2048, num_attention_heads=32, num_key_value_heads=4, intermediate_size=6144,
                    moe_intermediate_size=768, num_experts_per_tok=8),
}
TOWERS = {"2b": SMALL_TOWER, "4b": SMALL_TOWER, "30b-a3b": LARGE_TOWER}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(name, layers, depth, deepstack, experts, attention, dtype):
    text = dict(
        **WIDTHS[name], num_hidden_layers=layers, head_dim=128, vocab_size=151936, max_position_embeddings=262144,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    )
    vision = dict(
        **TOWERS[name], depth=depth, patch_size=16, temporal_patch_size=2, spatial_merge_size=2, num_position_embeddings=2304,
        out_hidden_size=text["hidden_size"], deepstack_visual_indexes=deepstack,
    )
    Config, Model = Qwen3VLConfig, Qwen3VLForConditionalGeneration
    if experts:
        Config, Model = Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
        text["num_experts"] = experts
    config = Config(
        text_config=text, vision_config=vision, image_token_id=151655, video_token_id=151656,
        vision_start_token_id=151652, vision_end_token_id=151653, tie_word_embeddings=True,
    )
    config._attn_implementation = attention
    torch.set_default_dtype(DTYPES[dtype])
    model = Model(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def of_config(values, attention, dtype):
    config = AutoConfig.for_model(**values)
    config._attn_implementation = attention
    return AutoModelForImageTextToText.from_config(config, dtype=DTYPES[dtype]).eval()


def inputs(config, width, height, images, frames, text, batch):
    """What the processor hands over for sides that are already multiples of a token's."""
    vision, stamps = config.vision_config, config.model_type.startswith("qwen3")
    t, h, w = max(1, frames // 2), height // vision.patch_size, width // vision.patch_size
    if not images:
        ids = torch.tensor([[100 + i for i in range(text)]] * batch)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": torch.zeros_like(ids)}
    IMAGE_TOKEN, VIDEO_TOKEN = config.image_token_id, config.video_token_id
    VISION_START, VISION_END = config.vision_start_token_id, config.vision_end_token_id
    pixels = torch.rand(batch * images * t * h * w, 3 * 2 * vision.patch_size ** 2)
    grid = torch.tensor([[t, h, w]] * (batch * images))
    token = VIDEO_TOKEN if frames else IMAGE_TOKEN
    ids = [100 + i for i in range(text // 2)]
    for i in [i for _ in range(images) for i in range(t if stamps else 1)]:
        if frames and stamps:  # "<0.2 seconds>" at two frames a second: a token per digit and point, and three around them
            ids += [300] * (len(f"{(2 * i + 0.5) / 2:.1f}") + 3)
        ids += [VISION_START] + [token] * (h * w // 4 * (1 if stamps else t)) + [VISION_END]
    ids += [200 + i for i in range(text - text // 2)]
    ids = torch.tensor([ids] * batch)
    types = torch.zeros_like(ids)
    types[ids == token] = 2 if frames else 1
    suffix = "_videos" if frames else ""
    kind = "video" if frames else "image"
    out = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": types,
        "pixel_values" + suffix: pixels, kind + "_grid_thw": grid,
    }
    if frames and not stamps:
        out["second_per_grid_ts"] = torch.tensor([1.0] * (batch * images))
    return out


def sized(config, sizes, text):
    """inputs of one sequence with an image of each size, one beside the other, between halves of the text."""
    parts = [inputs(config, width, height, 1, 0, 0, 1) for width, height in sizes]
    halves = [torch.tensor([[first + i for i in range(n)]]) for first, n in ((100, text // 2), (200, text - text // 2))]
    ids = torch.cat([halves[0]] + [p["input_ids"] for p in parts] + [halves[1]], 1).long()
    types = torch.zeros_like(ids)
    types[ids == config.image_token_id] = 1
    out = {key: torch.cat([p[key] for p in parts]) for key in ("pixel_values", "image_grid_thw")}
    return dict(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=types, **out)


def mark_phases(model):
    """Wraps the tower and the forward pass in annotations that the profiler records."""
    def wrap(module, name):
        forward = module.forward

        def marked(*args, **kwargs):
            with record_function("phase:" + name()):
                return forward(*args, **kwargs)

        module.forward = marked

    steps = iter(["prefill"])
    wrap(model.model.visual, lambda: "vision")
    wrap(model.model.language_model, lambda: next(steps, "decode"))


def record(model, model_inputs, steps, cache, math):
    settings = dict(max_new_tokens=steps + 1, do_sample=False, pad_token_id=0, use_cache=True)
    if cache == "static":
        settings["cache_implementation"] = "static"
        settings["disable_compile"] = True
    backends = [SDPBackend.MATH] if math else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with torch.no_grad(), sdpa_kernel(backends), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        model.generate(**model_inputs, **settings)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trace.json")
        prof.export_chrome_trace(path)
        with open(path) as f:
            return json.load(f)["traceEvents"]


def steps_of(events):
    """Phases, allocations and frees in order, each allocation with the innermost operator around it."""
    spans = sorted(
        (e for e in events if e.get("ph") == "X" and e.get("cat") in ("cpu_op", "user_annotation")),
        key=lambda e: (e["ts"], -e["dur"]),
    )
    memory = [e for e in events if e.get("name") == "[memory]"]
    memory.sort(key=lambda e: e["ts"])
    ids, free, stack, at = {}, [], [], 0
    yield ("m", "prepare")
    for e in memory:
        while at < len(spans) and spans[at]["ts"] <= e["ts"]:
            span = spans[at]
            at += 1
            if span["name"].startswith("phase:"):
                yield ("m", span["name"].removeprefix("phase:"))
            stack.append(span)
        while stack and stack[-1]["ts"] + stack[-1]["dur"] < e["ts"]:
            stack.pop()
        args = e["args"]
        if args["Bytes"] > 0:
            if args["Addr"] in ids:
                raise SystemExit(f"allocation at {args['Addr']:x}, which is live: the profiler lost the order of events")
            op = next((s["name"] for s in reversed(stack) if s["ts"] + s["dur"] >= e["ts"] and s["cat"] == "cpu_op"), "-")
            ids[args["Addr"]] = free.pop() if free else len(ids)
            yield ("a", ids[args["Addr"]], args["Bytes"], op.removeprefix("aten::"))
        elif args["Addr"] in ids:
            free.append(ids.pop(args["Addr"]))
            yield ("f", free[-1])


def write(path, header, steps):
    """The trace format of vlmem: a table of tags as they come up, the events, and their count."""
    tags, count = {}, 0
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as out:
        title = " ".join(f"{key}={value}" for key, value in header.items())
        out.write(f"vlmem-trace 1 name={json.dumps(title)}\n".encode())
        for step in steps:
            if step[0] in "am" and step[-1] not in tags:
                tags[step[-1]] = len(tags) + 1
                out.write(f"t {tags[step[-1]]} {json.dumps(step[-1])}\n".encode())
            if step[0] == "m":
                line = f"m {tags[step[1]]}"
            elif step[0] == "a":
                line = f"a {step[1]} {step[2]} 0 general {tags[step[3]]}"
            else:
                line = f"f {step[1]}"
            out.write((line + "\n").encode())
            count += 1
        out.write(f"end {count}\n".encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=WIDTHS, default="2b")
    parser.add_argument("--image", default="640x480", help="sides after resizing: multiples of 32; several, as in "
                        "640x480,320x320, are one image each")
    parser.add_argument("--images", type=int, default=1, help="such images in each sequence")
    parser.add_argument("--frames", type=int, default=0, help="a video of this many sampled frames instead")
    parser.add_argument("--text", type=int, default=30, help="prompt tokens besides the vision tokens")
    parser.add_argument("--steps", type=int, default=8, help="decode steps after the prefill")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--attention", choices=["sdpa", "math", "eager"], default="sdpa",
                        help="math: sdpa with neither flash nor memory-efficient kernels, as on cards that have none")
    parser.add_argument("--cache", choices=["dynamic", "static"], default="dynamic")
    parser.add_argument("--config", help="a config.json in place of --model, --layers, --depth, --deepstack and --experts")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--deepstack", default="0,1,2")
    parser.add_argument("--experts", type=int, default=16, help="of a mixture of experts; temporaries hardly depend on it")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", required=True)
    run(parser.parse_args())


def run(o):
    """Records what the options say, as write() lays it down."""
    torch.manual_seed(0)
    torch.set_num_threads(o.threads)
    sizes = [tuple(int(v) for v in size.split("x")) for size in o.image.split(",")]
    width, height = sizes[0]
    attention = "eager" if o.attention == "eager" else "sdpa"
    if o.config:
        values = json.load(open(o.config)) if isinstance(o.config, str) else o.config
        model = of_config(values, attention, o.dtype)
        header = dict(config=json.dumps(values, separators=(",", ":"), sort_keys=True))
    else:
        deepstack = [int(v) for v in o.deepstack.split(",")]
        experts = o.experts if "num_experts_per_tok" in WIDTHS[o.model] else 0
        model = build(o.model, o.layers, o.depth, deepstack, experts, attention, o.dtype)
        header = dict(model="qwen3-vl-" + o.model, layers=o.layers, depth=o.depth, deepstack=o.deepstack, experts=experts)
    side = 4 * model.config.vision_config.patch_size
    warm = inputs(model.config, side, side, 1, o.frames and 2, 4, o.batch)
    with torch.no_grad():
        model.generate(**warm, max_new_tokens=2, do_sample=False, pad_token_id=0)
    model.model.rope_deltas = None
    given = inputs(model.config, width, height, o.images, o.frames, o.text, o.batch)
    if len(sizes) > 1:
        given = sized(model.config, sizes, o.text)
        header.update(sizes=o.image)
    mark_phases(model)
    header.update(
        width=width, height=height, images=o.images, frames=o.frames, text=o.text, tokens=given["input_ids"].shape[1], steps=o.steps,
        batch=o.batch, dtype=o.dtype, attention=o.attention, cache=o.cache, threads=o.threads, device="cpu", amx=int(torch.cpu._is_amx_tile_supported()),
        torch=torch.__version__,
        transformers=transformers.__version__, python=platform.python_version(),
    )
    events = record(model, given, o.steps, o.cache, o.attention == "math")
    write(o.output, header, steps_of(events))


if __name__ == "__main__":
    main()
