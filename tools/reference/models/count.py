#!/usr/bin/env python3
"""Counts models with transformers' own classes: count.py counted.jsonl grids.csv [CONFIG.json...]

Writes, for every built-in model of profiles/model, for random configurations of every class that vlmem reads, with keys
left out at random, and for each CONFIG.json: all parameters and those of the image tower with what joins it to the
decoder, on the meta device, tied weights once; and the bytes that a real cache of the model holds after a prompt, once
it is narrowed (few experts, thin layers, short windows, but all layers, heads of keys and states), by what grows and
what does not. grids.csv is how many patches the processors make of images and videos: processor, frames (0: an image),
width, height, patches (-1: refused). The files are internal/profile/testdata's; run from the root. Minutes on a CPU.
"""
import copy, glob, json, random, sys
import torch, transformers, yaml
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, DynamicCache
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.gemma4.image_processing_gemma4 import get_aspect_ratio_preserving_size
from transformers.models.glm46v.image_processing_glm46v import Glm46VImageProcessor
from transformers.models.glm46v.video_processing_glm46v import Glm46VVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

TOWER = ("visual", "vision", "multi_modal_projector", "merger", "connector", "audio_tower", "projector", "embed_audio",
         "view_separator")
TOKENS = 40  # of the prompt whose cache is measured
TEXT = ["qwen2", "qwen3", "qwen3_moe", "llama", "mistral", "ministral3", "mixtral", "gemma2", "gemma3_text", "deepseek_v2",
        "deepseek_v3", "gpt_oss", "llama4_text", "qwen3_5_text", "qwen3_5_moe_text", "gemma4_text"]
WHOLE = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_omni_moe", "qwen3_5", "qwen3_5_moe", "gemma3",
         "internvl", "mistral3", "smolvlm", "idefics3", "gemma4", "gemma4_unified", "glm4v", "glm4v_moe", "glm46v", "llama4",
         "minicpmv4_6", "minicpmv4_7", "deepseek_ocr2"]


LATER = ["gemma4_text", "gemma4", "gemma4_unified", "glm4v", "glm4v_moe", "glm46v", "llama4", "minicpmv4_6", "minicpmv4_7",
         "deepseek_ocr2"]  # drawn after the others, which keeps those as they were


# Built-in models: a profile's keys are those of the configuration.

def of_profile(path):
    p = yaml.safe_load(open(path))
    text, vision = dict(p["text"]), dict(p["vision"])
    moe, variant = text.pop("moe", None), text.pop("variant", None) or {}
    tied = text.pop("tie_word_embeddings")
    kind = p.get("model_type") or ("qwen3_vl_moe" if moe else "qwen3_vl")
    text.update(moe or {})
    if variant.get("linear"):
        text.update(variant["linear"], full_attention_interval=variant["full_every"])
    if variant.get("shared_expert_intermediate_size"):
        text["shared_expert_intermediate_size"] = variant["shared_expert_intermediate_size"]
    vision.pop("kind", None)
    if kind == "qwen2_5_vl":
        vision.pop("num_position_embeddings"), vision.pop("deepstack_visual_indexes"), text.pop("head_dim")
    return p["name"], dict(model_type=kind, text_config=text, vision_config=vision, tie_word_embeddings=tied)


# Random configurations.

def text_keys(kind, r):
    """A decoder's keys; some of them only some classes have, and the others pass over."""
    pick = r.choice
    kv = pick([1, 2, 4, 8])
    heads, dim, layers = kv * pick([1, 2, 4, 5]), pick([32, 64, 96, 128]), pick([2, 5, 8, 13])
    k = dict(hidden_size=heads * dim if kind.startswith(("qwen2", "llama", "mistral", "mixtral")) else pick([320, 640, 1024]),
             num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv, head_dim=dim,
             intermediate_size=pick([512, 1000, 2048]), vocab_size=pick([512, 2003, 32000]), max_position_embeddings=4096,
             attention_bias=pick([True, False]), tie_word_embeddings=pick([True, False]))
    if kind.startswith("gemma2") or kind == "gpt_oss":
        k["attention_bias"] = kind == "gpt_oss"
    if kind == "llama":
        k["mlp_bias"] = pick([True, False])
    if kind in ("mistral", "mixtral", "gemma2", "gemma3_text", "gpt_oss"):
        k["sliding_window"] = pick([16, 33, 64])
    if kind in ("qwen2", "qwen3", "qwen2_vl_text", "qwen2_5_vl_text"):
        k.update(sliding_window=pick([16, 33]), use_sliding_window=pick([True, False]), max_window_layers=pick([0, 1, layers]))
    if kind == "gemma3_text":
        k["sliding_window_pattern"] = pick([2, 3, 6])
    experts = dict(num_experts_per_tok=2, moe_intermediate_size=pick([96, 256]))
    if kind in ("qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"):
        k.update(experts, **{pick(["num_experts", "num_local_experts"]): pick([4, 6])}, mlp_only_layers=pick([[], [1]]),
                 decoder_sparse_step=pick([1, 1, 2]))
    if kind in ("mixtral", "gpt_oss", "llama4_text"):
        k.update(num_experts_per_tok=1 if kind == "llama4_text" else 2, num_local_experts=pick([4, 6]))
    if kind == "llama4_text":
        k.update(intermediate_size_mlp=pick([512, 1024]), interleave_moe_layer_step=pick([1, 2]), attention_chunk_size=4096,
                 no_rope_layer_interval=pick([2, 4]))
    if kind in ("deepseek_v2", "deepseek_v3"):
        k.update(experts, n_routed_experts=pick([4, 8]), n_group=2, topk_group=1, n_shared_experts=pick([1, 2]),
                 first_k_dense_replace=pick([0, 1]), kv_lora_rank=pick([64, 128]), q_lora_rank=pick([None, 96]),
                 qk_nope_head_dim=pick([32, 64]), qk_rope_head_dim=pick([16, 32]), v_head_dim=pick([32, 64]),
                 num_key_value_heads=heads)
        k.pop("head_dim")
    if kind.startswith("qwen3_5"):
        nk = pick([2, 4])
        k.update(linear_num_key_heads=nk, linear_num_value_heads=nk * pick([1, 2, 3]), linear_key_head_dim=pick([32, 64]),
                 linear_value_head_dim=pick([32, 64]), linear_conv_kernel_dim=4, full_attention_interval=pick([2, 4]),
                 num_hidden_layers=pick([4, 5, 9]))  # a cache needs a layer that keeps keys
    if kind.startswith("gemma4"):
        shared = pick([0, 2]) if layers > 8 else 0  # each kind of layer must keep some
        k.update(sliding_window=pick([16, 33]), global_head_dim=pick([64, 128]), attention_k_eq_v=pick([True, False]),
                 num_global_key_value_heads=pick([1, kv]), num_kv_shared_layers=shared, use_double_wide_mlp=pick([True, False]),
                 attention_bias=False, tie_word_embeddings=True)
        if layers < 6:
            k["layer_types"] = (["sliding_attention", "full_attention"] * layers)[layers % 2:][:layers]
            k["layer_types"][-1] = "full_attention"
    if kind == "gemma4_text":
        k.update(hidden_size_per_layer_input=pick([0, 32]), vocab_size_per_layer_input=pick([512, 700]))
        if r.random() < 0.5:
            k.update(enable_moe_block=True, num_experts=pick([4, 6]), top_k_experts=2, moe_intermediate_size=pick([96, 128]))
    if kind.startswith("glm4v"):
        k.update(hidden_size=heads * dim, attention_bias=pick([True, False]) if "moe" in kind else True)
    if kind == "glm4v_moe_text":
        k.update(experts, n_routed_experts=pick([4, 8]), n_shared_experts=pick([1, 2]), first_k_dense_replace=pick([0, 1]))
    if kind == "deepseek_ocr2_text":
        k.update(experts, hidden_size=heads * 64, moe_intermediate_size=96, n_routed_experts=pick([4, 8]), n_shared_experts=pick([1, 2]), n_group=1,
                 topk_group=1, mlp_layer_types=["dense"] + ["sparse"] * (layers - 1), mlp_bias=pick([True, False]))
        k.pop("head_dim")
    if kind == "qwen3_5_moe_text":
        k.update(experts, num_experts=pick([4, 8]), shared_expert_intermediate_size=pick([64, 128]))
    return k


def vision_keys(kind, r, text):
    pick = r.choice
    heads = pick([2, 4])
    width, depth, out = heads * pick([32, 40]), pick([3, 4, 6]), text["hidden_size"]
    k = dict(hidden_size=width, num_heads=heads, depth=depth, intermediate_size=width * pick([2, 3]))
    if kind == "qwen2_vl":
        return dict(embed_dim=width, num_heads=heads, depth=depth, mlp_ratio=pick([2, 4]), hidden_size=out)
    if kind.startswith("qwen"):
        k.update(out_hidden_size=out, patch_size=pick([14, 16]), num_position_embeddings=pick([256, 576]))
        if kind in ("qwen3_vl", "qwen3_vl_moe", "qwen3_omni_moe"):
            k["deepstack_visual_indexes"] = pick([[0], [0, 2], [1, 2]])
        if kind == "qwen2_5_vl":
            k.update(window_size=112, fullatt_block_indexes=[depth - 1])
        return k
    if kind in ("glm4v", "glm4v_moe", "glm46v"):
        return dict(k, out_hidden_size=out, image_size=pick([56, 112]), attention_bias=pick([True, False]),
                    intermediate_size=pick([256, 500]))
    if kind == "gemma4_unified":
        return dict(patch_size=pick([8, 16]), pooling_kernel_size=pick([2, 3]), mm_embed_dim=width, mm_posemb_size=pick([64, 100]),
                    output_proj_dims=width)
    if kind == "deepseek_ocr2":
        sam = dict(hidden_size=width, num_attention_heads=heads, num_hidden_layers=depth, output_channels=pick([32, 64]),
                   image_size=pick([256, 512]), global_attn_indexes=[0, 2], downsample_channels=pick([None, [40, 48]]),
                   window_size=pick([7, 14]), qkv_bias=pick([True, False]), mlp_ratio=pick([2.0, 4.0]))
        return dict(sam_config=sam, encoder_config=dict(
            hidden_size=width, num_attention_heads=heads, num_key_value_heads=pick([heads, heads // 2]), num_hidden_layers=depth,
            intermediate_size=pick([128, 200])))
    k = dict(hidden_size=width, num_attention_heads=heads, num_hidden_layers=depth, intermediate_size=width * 2,
             patch_size=14, image_size=pick([56, 112]))
    if kind == "gemma4":
        head = pick([32, 64])
        k.update(head_dim=head, num_key_value_heads=heads, pooling_kernel_size=pick([2, 3]), patch_size=16,
                 position_embedding_size=pick([64, 100]))
        k.pop("image_size")
    if kind == "llama4":
        k.update(intermediate_size=width * 4, projector_input_dim=pick([96, 128]), vision_output_dim=pick([96, 128]))
        k["projector_output_dim"] = k["vision_output_dim"]
    if kind.startswith("minicpmv"):
        k.update(window_kernel_size=[2, 2])
    if kind == "gemma3":
        k.update(vision_use_head=pick([True, False]), image_size=896)
    if kind == "mistral3":
        k.update(head_dim=width // heads)
    if kind == "internvl":
        k.update(image_size=[112, 112], patch_size=[14, 14], attention_bias=pick([True, False]), use_qk_norm=pick([True, False]),
                 norm_type=pick(["layer_norm", "rms_norm"]))
    return k


def thinned(keys, r, keep):
    """Without one key in eight: its class's default holds."""
    return {k: v for k, v in keys.items() if k in keep or r.random() > 0.12}


def drawn(kind, r):
    keep = {"num_hidden_layers", "depth", "hidden_size", "num_attention_heads", "vocab_size", "out_hidden_size", "embed_dim",
            "num_experts_per_tok", "max_position_embeddings", "intermediate_size", "num_heads", "fullatt_block_indexes",
            "num_experts", "num_local_experts", "deepstack_visual_indexes", "n_routed_experts", "n_group", "topk_group", "mlp_layer_types"}
    if kind in TEXT:
        return dict(thinned(text_keys(kind, r), r, keep), model_type=kind)
    named = {"internvl": "qwen2", "mistral3": "mistral", "smolvlm": "llama", "idefics3": "llama", "glm46v": "glm4v_text",
             "minicpmv4_6": "qwen3_5_text", "minicpmv4_7": "qwen3"}.get(kind)
    inner = named or kind + "_text"
    text = text_keys(inner, r)
    tied = text.pop("tie_word_embeddings")
    config = dict(text_config=thinned(text, r, keep), vision_config=thinned(vision_keys(kind, r, text), r, keep))
    if named:
        config["text_config"]["model_type"] = named
    if kind == "mistral3":
        config["multimodal_projector_bias"] = r.choice([True, False])
        config["vision_config"]["model_type"] = "pixtral"
    if kind == "gemma3":
        config["vision_config"]["model_type"] = "siglip_vision_model"
        config["mm_tokens_per_image"] = 256
    if kind in ("gemma4", "gemma4_unified") and r.random() < 0.5:
        config["audio_config"] = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, output_proj_dims=96,
                                      subsampling_conv_channels=[16, 8]) if kind == "gemma4" else dict(audio_embed_dim=80)
    if kind in ("gemma4", "gemma4_unified"):
        tied = True
    if kind.startswith("minicpmv"):
        config.update(merger_times=r.choice([1, 2]), image_size=112)
    if kind in ("smolvlm", "idefics3"):
        config["scale_factor"] = r.choice([2, 4])
    if r.random() < 0.8:
        config["tie_word_embeddings"] = tied
    return dict({"thinker_config": config} if kind == "qwen3_omni_moe" else config, model_type=kind)


# Counting.

def model(values):
    values = {k: v for k, v in copy.deepcopy(values).items() if k not in ("quantization_config", "auto_map")}
    config = AutoConfig.for_model(**values)
    if config.model_type == "qwen3_omni_moe":
        return transformers.Qwen3OmniMoeThinkerForConditionalGeneration(config.thinker_config)
    try:
        return AutoModelForImageTextToText.from_config(config)
    except ValueError:
        return AutoModelForCausalLM.from_config(config)


def parameters(values):
    with torch.device("meta"):
        m = model(values)
    m.tie_weights()
    seen, total, tower = set(), 0, 0
    for name, p in m.named_parameters():
        if id(p) in seen:
            continue
        seen.add(id(p))
        total += p.numel()
        tower += p.numel() if any(t in name for t in TOWER) else 0
    return total, tower


def part(config, name):
    """The configuration's part of that name, or, of a decoder alone, all of it."""
    config = config.get("thinker_config", config)
    return config.get(name, config if name == "text_config" else {})


def sections(values, text):
    """Gives a decoder whose rotation has three parts such as fit its heads."""
    kind = text.get("model_type", values["model_type"])
    if not kind.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_5", "glm4")):
        return
    shown = AutoConfig.for_model(**{k: v for k, v in values.items() if k != "quantization_config"}).get_text_config(decoder=True)
    dim = getattr(shown, "head_dim", None) or shown.hidden_size // shown.num_attention_heads
    rope = dict(rope_type="default", rope_theta=1e6)
    if kind.startswith("qwen3_5"):
        dim, rope["partial_rotary_factor"] = dim // 4, 0.25
    if kind.startswith("glm4v_moe"):
        dim, rope["partial_rotary_factor"] = dim // 2, 0.5
    third = dim // 2 // 3
    text["rope_parameters"] = dict(rope, mrope_section=[dim // 2 - 2 * third, third, third])


def narrowed(values):
    """The same model with thin layers; what decides the cache stays, but for windows, which become short."""
    values = copy.deepcopy(values)
    values.pop("quantization_config", None)
    text, vision = part(values, "text_config"), part(values, "vision_config")
    text.pop("rope_scaling", None), text.pop("rope_parameters", None)
    sections(values, text)
    if text.get("model_type", values["model_type"]).startswith("gemma4"):
        text["hidden_size"] = 64  # heads differ by layer and stay
    elif "kv_lora_rank" not in text:
        shown = AutoConfig.for_model(**values).get_text_config(decoder=True)
        dim = getattr(shown, "head_dim", None) or shown.hidden_size // shown.num_attention_heads
        text.update(num_attention_heads=shown.num_key_value_heads, num_key_value_heads=shown.num_key_value_heads)
        text["hidden_size"] = dim * shown.num_key_value_heads
    text.update(intermediate_size=64, vocab_size=600, max_position_embeddings=1024)
    for key in ("moe_intermediate_size", "shared_expert_intermediate_size", "intermediate_size_mlp"):
        if key in text:
            text[key] = 32
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(key):
            text[key] = 8
    if text.get("num_experts_per_tok", 0) > 4:
        text["num_experts_per_tok"] = 4
    if text.get("sliding_window"):
        text["sliding_window"] = min(text["sliding_window"], 16)
    for key in ("depth", "num_hidden_layers"):
        if key in vision:
            vision[key] = 1
    if "deepstack_visual_indexes" in vision:
        vision["deepstack_visual_indexes"] = [0]
    if "fullatt_block_indexes" in vision:
        vision["fullatt_block_indexes"] = [0]
    for key in ("out_hidden_size", "hidden_size") if values["model_type"] == "qwen2_vl" else ("out_hidden_size",):
        if key in vision:
            vision[key] = text["hidden_size"]
    if "num_position_embeddings" in vision:
        vision["num_position_embeddings"] = 256
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        text.pop(key, None), values.pop(key, None)
    return values


def held(values):
    """Bytes of a real cache in bf16 after a prompt: of keys and values, and of states."""
    torch.set_default_dtype(torch.bfloat16)
    if values["model_type"] == "llama4":  # whose class cannot be called without images in this release
        values = dict(values["text_config"], model_type="llama4_text")
    m = model(values).eval()
    torch.set_default_dtype(torch.float32)
    cache = DynamicCache(config=m.config.get_text_config(decoder=True))
    with torch.no_grad():
        m(input_ids=torch.randint(100, 500, (1, TOKENS)), past_key_values=cache, use_cache=True)
    grows = states = 0
    for layer in cache.layers:
        for name, tensor in vars(layer).items():
            if isinstance(tensor, dict):
                tensor = list(tensor.values())
            for t in tensor if isinstance(tensor, list) else [tensor]:
                if isinstance(t, torch.Tensor) and t.is_floating_point():
                    size = t.numel() * t.element_size()
                    if name in ("keys", "values"):
                        grows += size
                    else:
                        states += size
    return grows, states


def counted(name, values):
    total, tower = parameters(values)
    small = narrowed(values)
    grows, states = held(small)
    return dict(name=name, config=values, parameters=total, vision=tower, narrow=small, tokens=TOKENS, cached=grows, states=states)


def models(paths):
    for path in sorted(glob.glob("profiles/model/*.yaml")):
        yield of_profile(path)
    r = random.Random(17)
    for kind in TEXT + WHOLE:
        for i in range(6 if kind not in LATER else 0):
            yield "%s %d" % (kind, i), drawn(kind, r)
    for kind in LATER:
        r = random.Random(23)
        for i in range(4):
            yield "%s %d" % (kind, i), drawn(kind, r)
    for path in paths:
        yield path, json.loads(open(path).read().replace("Infinity", "null"))


# Grids.

class SoftTokens:
    """Gemma 4's processor at its own budget of 280 tokens of 3 x 3 patches."""

    def get_number_of_image_patches(self, height, width, _):
        h, w = get_aspect_ratio_preserving_size(height, width, 16, 280 * 9, 3)
        return (h // 16) * (w // 16)


PROCESSORS = {
    "qwen3_vl": (Qwen2VLImageProcessor(size=dict(shortest_edge=65536, longest_edge=16777216), patch_size=16),
                 Qwen3VLVideoProcessor(size=dict(shortest_edge=4096, longest_edge=25165824))),
    "qwen2_5_vl": (Qwen2VLImageProcessor(size=dict(shortest_edge=3136, longest_edge=12845056)),
                   Qwen2VLVideoProcessor(size=dict(shortest_edge=100352, longest_edge=602112))),
    "glm46v": (Glm46VImageProcessor(), Glm46VVideoProcessor()),
    "gemma4": (SoftTokens(), None),
}


def patches(image, video, frames, width, height):
    try:
        if frames == 0:
            return image.get_number_of_image_patches(height, width, {})
        return video.get_num_of_video_patches(frames, height, width, {})
    except ValueError:  # refused
        return -1


def cases(r):
    """Sides below a token's and frame counts that are odd are among them."""
    yield from ((5, 1920, 2200), (9, 1664, 1696), (13, 1376, 1408), (5, 2200, 2300), (97, 905, 16), (4, 20, 4000),
                (1, 640, 480), (0, 10, 3000), (0, 1280, 720), (0, 20, 20), (0, 9000, 7000))
    for i in range(120):
        side = lambda: int(2 ** r.uniform(4, 12.3))
        yield (0 if i % 2 else r.randint(1, 200), side(), side())


def main(out, grids, paths):
    lines, refused = [], 0
    for name, values in models(paths):
        print(name, file=sys.stderr)
        try:
            lines.append(json.dumps(counted(name, values), sort_keys=True))
        except Exception as e:  # a class refuses some drawn combinations; a built-in model never
            if name.split(" ")[0] not in TEXT + WHOLE:
                raise
            refused += 1
            print("not a model of transformers:", name, str(e)[:120], file=sys.stderr)
    with open(out, "w") as f:
        f.write("\n".join(lines) + "\n")
    with open(grids, "w") as f:
        for name, (image, video) in PROCESSORS.items():
            for frames, width, height in cases(random.Random(7)):
                if frames > 0 and video is None:
                    continue
                f.write("%s,%d,%d,%d,%d\n" % (name, frames, width, height, patches(image, video, frames, width, height)))
    print("%d models counted by transformers %s, %d drawn ones refused by it" % (len(lines), transformers.__version__, refused))


if len(sys.argv) < 3:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2], sys.argv[3:])
