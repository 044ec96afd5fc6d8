#!/usr/bin/env python3
"""Records the defaults of transformers' configuration classes as internal/profile/classes.json: classes.py OUT.

A config.json lacks the keys that equal its class's defaults, and nothing but the class says what they are. The fields
of each class are written as declared, before they are completed from one another; completing them is the reader's.
Needs transformers alone. The file states the release that it was recorded from.
"""
import dataclasses, json, sys
import transformers
from transformers import CONFIG_MAPPING

TYPES = """qwen2 qwen3 qwen3_moe llama mistral ministral3 mixtral gemma2 gemma3 gemma3_text deepseek_v2 deepseek_v3
qwen2_vl qwen2_vl_text qwen2_vl_vision qwen2_5_vl qwen2_5_vl_text qwen2_5_vl_vision
qwen3_vl qwen3_vl_text qwen3_vl_vision qwen3_vl_moe qwen3_vl_moe_text qwen3_vl_moe_vision
qwen3_omni_moe qwen3_omni_moe_thinker qwen3_omni_moe_text qwen3_omni_moe_vision_encoder qwen3_omni_moe_audio_encoder
qwen3_5 qwen3_5_text qwen3_5_vision qwen3_5_moe qwen3_5_moe_text qwen3_5_moe_vision
siglip_vision_model internvl internvl_vision smolvlm smolvlm_vision idefics3 idefics3_vision mistral3 pixtral
llama4 llama4_text llama4_vision_model gpt_oss glm4v glm4v_text glm4v_vision glm4v_moe glm4v_moe_text
glm4v_moe_vision glm46v gemma4 gemma4_text gemma4_vision gemma4_audio gemma4_unified gemma4_unified_text
gemma4_unified_vision gemma4_unified_audio minicpmv4_6 minicpmv4_6_vision minicpmv4_7 minicpmv4_7_vision
deepseek_ocr2 deepseek_ocr2_text deepseek_ocr2_vision deepseek_ocr2_encoder deepseek_ocr2_sam_vision_model""".split()

# What never changes a shape.
DROP = {"return_dict", "output_hidden_states", "output_attentions", "chunk_size_feed_forward", "is_encoder_decoder",
        "architectures", "id2label", "label2id", "problem_type", "use_cache", "initializer_range", "rms_norm_eps",
        "attention_dropout", "hidden_act", "hidden_activation", "layer_norm_eps", "name_or_path", "transformers_version",
        "output_router_logits", "router_aux_loss_coef", "norm_topk_prob", "rope_interleave", "pretraining_tp", "dtype"}


def keep(name, value):
    if name in DROP or name.startswith("_") or name != "eos_token_id" and name.endswith(("_token_id", "_token_index", "_dropout")):
        return False
    return value is None or isinstance(value, (bool, int, list, tuple, str)) and name != "rope_parameters"


def declared(cls):
    """The defaults of a class's own fields; None where a field has none or is completed later."""
    out = {}
    for f in dataclasses.fields(cls):
        value = None if f.default is dataclasses.MISSING else f.default
        if f.default_factory is not dataclasses.MISSING:
            value = f.default_factory()
        if keep(f.name, value):
            out[f.name] = list(value) if isinstance(value, tuple) else value
    return out


def parts(config):
    """The model types of the configurations within a configuration, and which of them a class does without."""
    out, optional = {}, []
    for name, cls in (getattr(type(config), "sub_configs", None) or {}).items():
        part = getattr(config, name, None)
        if part is not None:
            out[name] = part.model_type
        elif getattr(cls, "model_type", ""):
            out[name] = cls.model_type
            optional.append(name)
    return out, optional


def main(path):
    classes = {}
    for kind in TYPES:
        config = CONFIG_MAPPING[kind]()
        entry = {"defaults": declared(type(config))}
        inner, optional = parts(config)
        renamed = dict(type(config).attribute_map or {})
        for key, value in (("renamed", renamed), ("parts", inner), ("optional", optional)):
            if value:
                entry[key] = value
        classes[kind] = entry
    with open(path, "w") as f:
        lines = ",\n".join("  %s: %s" % (json.dumps(k), json.dumps(v, sort_keys=True)) for k, v in sorted(classes.items()))
        f.write('{"release": %s, "classes": {\n%s\n}}\n' % (json.dumps(transformers.__version__), lines))


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
