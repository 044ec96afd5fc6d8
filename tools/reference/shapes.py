#!/usr/bin/env python3
"""Records random requests to random narrow models: shapes.py SEED COUNT FOLDER [CLASS...]

Each recording is what record.py makes of a drawn config.json of a class, qwen2_5_vl, qwen3_5 and qwen3_5_moe unless
others are named, and of a drawn request: images or a video of a drawn size, or text alone, text beside them, sequences,
element type, attention and cache. FOLDER/CLASS-SEED-NUMBER.txt.gz; internal/workload's tests hold each of them.
"""
import argparse, os, random, sys
import record

TOKENS = dict(image_token_id=1990, video_token_id=1991, vision_start_token_id=1992, vision_end_token_id=1993)


def config(kind, r):
    pick = r.choice
    kv, dim = pick([1, 2, 4]), pick([32, 64, 128])
    heads = kv * pick([1, 2, 3])
    width = heads * dim if kind.startswith("qwen2") else pick([128, 256, 320])
    text = dict(hidden_size=width, num_hidden_layers=pick([2, 3, 4]), num_attention_heads=heads, num_key_value_heads=kv,
                intermediate_size=pick([192, 512, 768]), vocab_size=2000, max_position_embeddings=32768)
    patch = 14 if kind.startswith("qwen2") else 16
    towerheads = pick([2, 4])
    vision = dict(depth=pick([2, 3]), hidden_size=towerheads * pick([32, 64]), num_heads=towerheads, patch_size=patch,
                  intermediate_size=pick([128, 320]), out_hidden_size=width)
    if kind == "qwen2_5_vl":
        section = dim // 8
        text["rope_parameters"] = dict(rope_type="default", rope_theta=1e6, mrope_section=[dim // 2 - 2 * section, section, section])
        vision.update(window_size=pick([56, 112]), fullatt_block_indexes=[vision["depth"] - 1])
    else:
        text["head_dim"], vision["num_position_embeddings"] = dim, 2304
    if kind.startswith("qwen3_5"):
        keys, every = pick([1, 2]), pick([2, 4])
        text["num_hidden_layers"] = max(every, text["num_hidden_layers"])  # a cache needs one layer that keeps keys
        rotary = dim // 4 // 2
        third = rotary // 3
        text.update(linear_num_key_heads=keys, linear_num_value_heads=keys * pick([1, 2]), linear_key_head_dim=pick([32, 64]),
                    linear_value_head_dim=pick([32, 64]), linear_conv_kernel_dim=4, full_attention_interval=every,
                    rope_parameters=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25,
                                         mrope_section=[rotary - 2 * third, third, third], mrope_interleaved=True))
    if kind == "qwen3_5_moe":
        text.pop("intermediate_size")
        text.update(num_experts=pick([4, 8]), num_experts_per_tok=2, moe_intermediate_size=pick([64, 96]),
                    shared_expert_intermediate_size=pick([64, 128]))
    return dict(model_type=kind, text_config=text, vision_config=vision, tie_word_embeddings=pick([True, False]), **TOKENS)


def request(kind, r):
    pick, side = r.choice, 28 if kind.startswith("qwen2") else 32
    o = dict(images=pick([0, 1, 1, 1, 2, 3]), frames=0, text=pick([3, 30, 61, 150, 333]), steps=pick([1, 2, 4]), batch=pick([1, 1, 1, 2, 3]),
             dtype=pick(["fp32", "fp32", "bf16"]), attention=pick(["sdpa", "sdpa", "sdpa", "eager", "math"]),
             cache=pick(["dynamic", "dynamic", "dynamic", "static"]), threads=1)
    o["image"] = "%dx%d" % (side * pick([4, 7, 10, 15]), side * pick([3, 8, 11]))
    if o["images"] == 1 and r.random() < 0.3:
        o["frames"] = pick([4, 6, 10])
    return o


def main(seed, count, folder, kinds):
    r = random.Random(seed)
    for n in range(count):
        kind = kinds[n % len(kinds)]
        path = os.path.join(folder, "%s-%d-%d.txt.gz" % (kind, seed, n))
        o = argparse.Namespace(config=config(kind, r), output=path, **request(kind, r))
        if o.dtype != "fp32":  # oneDNN's convolution takes scratch of its own where a tower is narrower than any published one
            heads, width = r.choice([(12, 768), (16, 1024), (16, 1152)]) if kind.startswith("qwen3") else (16, 1280)
            o.config["vision_config"].update(num_heads=heads, hidden_size=width)
        print(path, {k: v for k, v in vars(o).items() if k != "config"}, flush=True)
        try:
            record.run(o)
        except Exception as e:
            print("not run:", type(e).__name__, str(e)[:200], flush=True)


if len(sys.argv) < 4:
    sys.exit(__doc__)
main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:] or ["qwen2_5_vl", "qwen3_5", "qwen3_5_moe"])
