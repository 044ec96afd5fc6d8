#!/usr/bin/env python3
"""Write a GGUF with the full-size header of a Qwen3-VL decoder and a sparse, all-zero tensor area.

    write_gguf.py CONFIG.json TYPE OUT.gguf

CONFIG.json is the model's Hugging Face configuration, TYPE the ggml type of every matrix (f32, f16, q8_0, ...); norms and
expert routers are f32. llama.cpp loads the file with mmap in seconds and reports every buffer as for the real model.
"""
import json, struct, sys

# name: (id in ggml.h, elements per block, bytes per block)
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22),
         "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "q4_k": (12, 256, 144), "q6_k": (14, 256, 210), "bf16": (30, 1, 2)}
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
ALIGNMENT = 32


def string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def pair(key, kind, value):
    pack = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}
    head = string(key) + struct.pack("<I", kind)
    return head + (string(value) if kind == STRING else struct.pack(pack[kind], value))


def array(key, kind, items):
    body = b"".join(string(i) for i in items) if kind == STRING else b"".join(struct.pack("<i", i) for i in items)
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + body


def metadata(config):
    t, v = config["text_config"], config["vision_config"]
    arch = "qwen3vlmoe" if "num_experts" in t else "qwen3vl"
    tokens = ["t%d" % i for i in range(t["vocab_size"])]
    pairs = [
        pair("general.architecture", STRING, arch), pair("general.name", STRING, "zeros"),
        pair(arch + ".block_count", U32, t["num_hidden_layers"]),
        pair(arch + ".context_length", U32, t["max_position_embeddings"]),
        pair(arch + ".embedding_length", U32, t["hidden_size"]),
        pair(arch + ".feed_forward_length", U32, t["intermediate_size"]),
        pair(arch + ".attention.head_count", U32, t["num_attention_heads"]),
        pair(arch + ".attention.head_count_kv", U32, t["num_key_value_heads"]),
        pair(arch + ".attention.key_length", U32, t["head_dim"]),
        pair(arch + ".attention.value_length", U32, t["head_dim"]),
        pair(arch + ".attention.layer_norm_rms_epsilon", F32, t["rms_norm_eps"]),
        pair(arch + ".rope.freq_base", F32, t["rope_theta"]),
        array(arch + ".rope.dimension_sections", I32, [24, 20, 20, 0]),
        pair(arch + ".n_deepstack_layers", U32, len(v["deepstack_visual_indexes"])),
        pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "qwen2"),
        array("tokenizer.ggml.tokens", STRING, tokens), array("tokenizer.ggml.token_type", I32, [1] * len(tokens)),
        array("tokenizer.ggml.merges", STRING, ["t 0"]),
        pair("tokenizer.ggml.eos_token_id", U32, 0),
    ]
    if arch == "qwen3vlmoe":
        pairs += [pair(arch + ".expert_count", U32, t["num_experts"]),
                  pair(arch + ".expert_used_count", U32, t["num_experts_per_tok"]),
                  pair(arch + ".expert_feed_forward_length", U32, t["moe_intermediate_size"])]
    return pairs


def tensors(config, kind):
    t = config["text_config"]
    d, f, h = t["hidden_size"], t["intermediate_size"], t["head_dim"]
    q, kv, e = h * t["num_attention_heads"], h * t["num_key_value_heads"], t.get("num_experts")
    yield "token_embd.weight", [d, t["vocab_size"]], kind
    if not config["tie_word_embeddings"]:
        yield "output.weight", [d, t["vocab_size"]], kind
    yield "output_norm.weight", [d], "f32"
    for i in range(t["num_hidden_layers"]):
        b = "blk.%d." % i
        yield from ((b + "attn_norm.weight", [d], "f32"), (b + "attn_q.weight", [d, q], kind),
                    (b + "attn_k.weight", [d, kv], kind), (b + "attn_v.weight", [d, kv], kind),
                    (b + "attn_output.weight", [q, d], kind), (b + "attn_q_norm.weight", [h], "f32"),
                    (b + "attn_k_norm.weight", [h], "f32"), (b + "ffn_norm.weight", [d], "f32"))
        if e:
            x = t["moe_intermediate_size"]
            yield from ((b + "ffn_gate_inp.weight", [d, e], "f32"), (b + "ffn_gate_exps.weight", [d, x, e], kind),
                        (b + "ffn_up_exps.weight", [d, x, e], kind), (b + "ffn_down_exps.weight", [x, d, e], kind))
        else:
            yield from ((b + "ffn_gate.weight", [d, f], kind), (b + "ffn_up.weight", [d, f], kind),
                        (b + "ffn_down.weight", [f, d], kind))


def write(pairs, infos, path):
    """Writes header, metadata and tensor infos, and extends the file over the zero tensor area without writing it."""
    offset, table = 0, []
    for name, shape, kind in infos:
        number, block, size = TYPES[kind]
        n = 1
        for s in shape:
            n *= s
        table.append(string(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", s) for s in shape)
                     + struct.pack("<IQ", number, offset))
        offset += -(-n // block * size // ALIGNMENT) * ALIGNMENT
    with open(path, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(table), len(pairs)) + b"".join(pairs) + b"".join(table))
        out.truncate(-(-out.tell() // ALIGNMENT) * ALIGNMENT + offset)
    return offset


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in TYPES:
        sys.exit(__doc__)
    config = json.load(open(sys.argv[1]))
    print(write(metadata(config), list(tensors(config, sys.argv[2])), sys.argv[3]), "bytes of tensors")
