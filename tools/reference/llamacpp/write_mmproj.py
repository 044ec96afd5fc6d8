#!/usr/bin/env python3
"""Write a GGUF with the full-size header of a Qwen3-VL projector (mmproj) and a sparse, all-zero tensor area.

    write_mmproj.py CONFIG.json TYPE OUT.gguf

TYPE (f16, f32, bf16) is that of matrices; the rest is f32, as convert_hf_to_gguf.py --mmproj stores it.
"""
import json, struct, sys
from write_gguf import ARRAY, BOOL, F32, STRING, TYPES, U32, pair, string, write


def floats(key, items):
    return string(key) + struct.pack("<IIQ", ARRAY, F32, len(items)) + b"".join(struct.pack("<f", i) for i in items)


def flags(key, items):
    return string(key) + struct.pack("<IIQ", ARRAY, BOOL, len(items)) + b"".join(struct.pack("<?", i) for i in items)


def metadata(v):
    side = round(v["num_position_embeddings"] ** 0.5)
    p = "clip.vision."
    return [
        pair("general.architecture", STRING, "clip"), pair("general.name", STRING, "zeros"),
        pair("clip.has_vision_encoder", BOOL, True), pair("clip.projector_type", STRING, "qwen3vl_merger"),
        pair("clip.use_gelu", BOOL, True), pair(p + "image_size", U32, side * v["patch_size"]),
        pair(p + "patch_size", U32, v["patch_size"]), pair(p + "embedding_length", U32, v["hidden_size"]),
        pair(p + "feed_forward_length", U32, v["intermediate_size"]), pair(p + "block_count", U32, v["depth"]),
        pair(p + "projection_dim", U32, v["out_hidden_size"]), pair(p + "attention.head_count", U32, v["num_heads"]),
        pair(p + "attention.layer_norm_epsilon", F32, 1e-6), pair(p + "spatial_merge_size", U32, v["spatial_merge_size"]),
        floats(p + "image_mean", [0.5] * 3), floats(p + "image_std", [0.5] * 3),
        flags(p + "is_deepstack_layers", [i in v["deepstack_visual_indexes"] for i in range(v["depth"])]),
    ]


def tensors(v, kind):
    c, f, out, side = v["hidden_size"], v["intermediate_size"], v["out_hidden_size"], v["patch_size"]
    m = c * v["spatial_merge_size"] ** 2

    def linear(name, a, b):
        yield name + ".weight", [a, b], kind
        yield name + ".bias", [b], "f32"

    def norm(name, n):
        yield name + ".weight", [n], "f32"
        yield name + ".bias", [n], "f32"

    yield "v.patch_embd.weight", [side, side, v["in_channels"], c], kind
    yield "v.patch_embd.weight.1", [side, side, v["in_channels"], c], kind
    yield "v.patch_embd.bias", [c], "f32"
    yield "v.position_embd.weight", [c, v["num_position_embeddings"]], "f32"
    yield from norm("v.post_ln", c)
    for i in range(v["depth"]):
        b = "v.blk.%d." % i
        yield from norm(b + "ln1", c)
        yield from norm(b + "ln2", c)
        yield from linear(b + "attn_qkv", c, 3 * c)
        yield from linear(b + "attn_out", c, c)
        yield from linear(b + "ffn_up", c, f)
        yield from linear(b + "ffn_down", f, c)
    for i in v["deepstack_visual_indexes"]:
        yield from norm("v.deepstack.%d.norm" % i, m)
        yield from linear("v.deepstack.%d.fc1" % i, m, m)
        yield from linear("v.deepstack.%d.fc2" % i, m, out)
    yield from linear("mm.0", m, m)
    yield from linear("mm.2", m, out)


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in TYPES:
        sys.exit(__doc__)
    v = json.load(open(sys.argv[1]))["vision_config"]
    infos = list(tensors(v, sys.argv[2]))
    print(write(metadata(v), infos, sys.argv[3]), "bytes in", len(infos), "tensors")
