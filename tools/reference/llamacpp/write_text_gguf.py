#!/usr/bin/env python3
"""Write a GGUF with the full-size header of a decoder without images and a sparse, all-zero tensor area.

    write_text_gguf.py CONFIG.json TYPE OUT.gguf

CONFIG.json is the model's Hugging Face configuration with every key spelt out (llama, qwen2, qwen2_5_vl, qwen3, qwen3_moe, qwen3_5_text,
qwen3_5_moe_text, gemma2, gemma3_text, deepseek_v2), TYPE as for write_gguf.py.
"""
import json, sys
from write_gguf import TYPES, U32, I32, F32, STRING, pair, array, write

ARCHITECTURES = {"llama": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
                 "gemma2": "gemma2", "gemma3_text": "gemma3", "deepseek_v2": "deepseek2",
                 "qwen2_5_vl": "qwen2vl", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe"}


def head(c):
    return c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])


def heads(c):
    "of multi-token prediction: each is a block of attention after the layers"
    return c.get("mtp_num_hidden_layers", 0)


def experts(c):
    return c.get("num_experts") or c.get("num_local_experts") or c.get("n_routed_experts")


def metadata(c):
    a, h = ARCHITECTURES[c["model_type"]], head(c)
    tokens = ["t%d" % i for i in range(c["vocab_size"])]
    number = lambda key, value: pair(a + "." + key, U32, value)
    pairs = [pair("general.architecture", STRING, a), number("block_count", c["num_hidden_layers"] + heads(c)),
             number("context_length", c["max_position_embeddings"]), number("embedding_length", c["hidden_size"]),
             number("feed_forward_length", c["intermediate_size"]), number("attention.head_count", c["num_attention_heads"]),
             pair(a + ".attention.layer_norm_rms_epsilon", F32, 1e-6), pair(a + ".rope.freq_base", F32, 1e4),
             pair("tokenizer.ggml.model", STRING, "gpt2"), pair("tokenizer.ggml.pre", STRING, "qwen2"),
             array("tokenizer.ggml.tokens", STRING, tokens), array("tokenizer.ggml.token_type", I32, [1] * len(tokens)),
             array("tokenizer.ggml.merges", STRING, ["t 0"]), pair("tokenizer.ggml.eos_token_id", U32, 0)]
    if a == "deepseek2":
        rank, rope, nope, value = c["kv_lora_rank"], c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
        pairs += [number("attention.head_count_kv", 1), number("attention.key_length", rank + rope), number("attention.value_length", rank),
                  number("attention.key_length_mla", nope + rope), number("attention.value_length_mla", value),
                  number("attention.kv_lora_rank", rank), number("rope.dimension_count", rope), number("vocab_size", c["vocab_size"]),
                  number("leading_dense_block_count", c["first_k_dense_replace"]), number("expert_shared_count", c["n_shared_experts"])]
    else:
        pairs += [number("attention.head_count_kv", c["num_key_value_heads"]), number("attention.key_length", h),
                  number("attention.value_length", h), number("rope.dimension_count", h)]
    if a in ("qwen2vl", "qwen35", "qwen35moe"):
        pairs.append(array(a + ".rope.dimension_sections", I32, [8, 12, 12, 0]))
    if a.startswith("qwen35"):
        n, width = c["linear_num_value_heads"], c["linear_value_head_dim"]
        pairs += [number("ssm.conv_kernel", c["linear_conv_kernel_dim"]), number("ssm.inner_size", n * width), number("ssm.state_size", width),
                  number("ssm.time_step_rank", n), number("ssm.group_count", c["linear_num_key_heads"]),
                  number("full_attention_interval", c["full_attention_interval"])]
    if heads(c):
        pairs.append(number("nextn_predict_layers", heads(c)))
    if c.get("shared_expert_intermediate_size"):
        pairs.append(number("expert_shared_feed_forward_length", c["shared_expert_intermediate_size"]))
    if c.get("sliding_window"):
        pairs.append(number("attention.sliding_window", c["sliding_window"]))
    if experts(c):
        pairs += [number("expert_count", experts(c)), number("expert_used_count", c["num_experts_per_tok"]),
                  number("expert_feed_forward_length", c.get("moe_intermediate_size", c["intermediate_size"]))]
    return pairs


def delta(c, kind):
    d, n, width = c["hidden_size"], c["linear_num_value_heads"], c["linear_value_head_dim"]
    channels = 2 * c["linear_num_key_heads"] * c["linear_key_head_dim"] + n * width
    return [("attn_qkv.weight", [d, channels], kind), ("attn_gate.weight", [d, n * width], kind),
            ("ssm_conv1d.weight", [c["linear_conv_kernel_dim"], channels], "f32"), ("ssm_dt.bias", [n], "f32"), ("ssm_a", [n], "f32"),
            ("ssm_beta.weight", [d, n], kind), ("ssm_alpha.weight", [d, n], kind), ("ssm_norm.weight", [width], "f32"),
            ("ssm_out.weight", [n * width, d], kind)]


def attention(c, b, kind):
    d, h, heads = c["hidden_size"], head(c), c["num_attention_heads"]
    if b < c["num_hidden_layers"] and "full_attention_interval" in c and (b + 1) % c["full_attention_interval"]:
        return delta(c, kind)
    if c["model_type"] == "deepseek_v2":
        rank, rope, nope, value = c["kv_lora_rank"], c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["v_head_dim"]
        return [("attn_q.weight", [d, heads * (nope + rope)], kind), ("attn_kv_a_mqa.weight", [d, rank + rope], kind),
                ("attn_kv_a_norm.weight", [rank], "f32"), ("attn_k_b.weight", [nope, rank, heads], kind),
                ("attn_v_b.weight", [rank, value, heads], kind), ("attn_output.weight", [heads * value, d], kind)]
    q, kv = h * heads, h * c["num_key_value_heads"]
    gated = 2 if "full_attention_interval" in c else 1
    list = [("attn_q.weight", [d, gated * q], kind), ("attn_k.weight", [d, kv], kind), ("attn_v.weight", [d, kv], kind), ("attn_output.weight", [q, d], kind)]
    if c["model_type"] in ("qwen3", "qwen3_moe", "gemma3_text", "qwen3_5_text", "qwen3_5_moe_text"):
        list += [("attn_q_norm.weight", [h], "f32"), ("attn_k_norm.weight", [h], "f32")]
    if c["model_type"] in ("qwen2", "qwen2_5_vl"):
        list += [("attn_q.bias", [q], "f32"), ("attn_k.bias", [kv], "f32"), ("attn_v.bias", [kv], "f32")]
    return list


def mlp(c, layer, kind):
    d, f, e = c["hidden_size"], c["intermediate_size"], experts(c)
    if not e or layer < c.get("first_k_dense_replace", 0):
        return [("ffn_gate.weight", [d, f], kind), ("ffn_up.weight", [d, f], kind), ("ffn_down.weight", [f, d], kind)]
    x = c.get("moe_intermediate_size", f)
    list = [("ffn_gate_inp.weight", [d, e], "f32"), ("ffn_gate_exps.weight", [d, x, e], kind), ("ffn_up_exps.weight", [d, x, e], kind), ("ffn_down_exps.weight", [x, d, e], kind)]
    if c.get("n_shared_experts"):
        s = x * c["n_shared_experts"]
        list += [("ffn_gate_shexp.weight", [d, s], kind), ("ffn_up_shexp.weight", [d, s], kind), ("ffn_down_shexp.weight", [s, d], kind)]
    if c.get("shared_expert_intermediate_size"):
        s = c["shared_expert_intermediate_size"]
        list += [("ffn_gate_inp_shexp.weight", [d], "f32"), ("ffn_gate_shexp.weight", [d, s], kind), ("ffn_up_shexp.weight", [d, s], kind),
                 ("ffn_down_shexp.weight", [s, d], kind)]
    return list


def tensors(c, kind):
    d = c["hidden_size"]
    yield "token_embd.weight", [d, c["vocab_size"]], kind
    if not c["tie_word_embeddings"]:
        yield "output.weight", [d, c["vocab_size"]], kind
    yield "output_norm.weight", [d], "f32"
    for i in range(c["num_hidden_layers"], c["num_hidden_layers"] + heads(c)):
        yield "blk.%d.nextn.eh_proj.weight" % i, [2 * d, d], kind
        for name in ("enorm", "hnorm", "shared_head_norm"):
            yield "blk.%d.nextn.%s.weight" % (i, name), [d], "f32"
    for i in range(c["num_hidden_layers"] + heads(c)):
        names = ["attn_norm", "post_attention_norm" if "full_attention_interval" in c else "ffn_norm"] + (["post_attention_norm", "post_ffw_norm"] if c["model_type"].startswith("gemma") else [])
        for name, shape, t in [(n + ".weight", [d], "f32") for n in names] + attention(c, i, kind) + mlp(c, i, kind):
            yield "blk.%d.%s" % (i, name), shape, t


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[2] not in TYPES:
        sys.exit(__doc__)
    config = json.load(open(sys.argv[1]))
    print(write(metadata(config), list(tensors(config, sys.argv[2])), sys.argv[3]), "bytes of tensors")
