"""Builds models by vLLM's own classes on the meta device and writes how their KV cache is cut into blocks.

    python vllm_pages.py > internal/engine/testdata/vllm_pages.csv

Each row: model, card, cards that share a layer, type of the cache, prefix caching, tokens of the longest sequence; then tokens of a block, bytes of
a block of all layers on one card, blocks of one such sequence, and tokens that 10 GiB are said to hold, or the word of what refused it.
"""
import csv
import logging
import os
import sys
import tempfile
import types

import vllm_shards as shards  # before vLLM: it chooses the runner and stubs what is not installed
import vllm_reads as reads
import torch
from served import CARDS, MODELS, processor, save

from vllm.config import get_layers_from_vllm_config, set_current_vllm_config  # noqa: E402
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
import vllm.v1.attention.backends.flashinfer as flashinfer  # noqa: E402
from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout  # noqa: E402
from vllm.v1.core.kv_cache_planning import _get_kv_cache_bytes_per_block as bytes_per_block  # noqa: E402
from vllm.v1.core.kv_cache_planning import get_kv_cache_config_from_groups, get_kv_cache_groups  # noqa: E402
from vllm.v1.core.kv_cache_utils import get_kv_cache_capacity  # noqa: E402
from vllm.v1.kv_cache_interface import AttentionSpec  # noqa: E402
from vllm.v1.worker.utils import customize_attention_spec  # noqa: E402

torch.cuda.current_device = lambda: torch.device("meta")
torch.cuda.get_device_capability = lambda *args: reads.CARD["capability"]
torch.cuda.get_device_properties = lambda *args: types.SimpleNamespace(
    multi_processor_count=82, name=reads.CARD["name"], major=reads.CARD["capability"][0], minor=reads.CARD["capability"][1], total_memory=reads.CARD["bytes"])
flashinfer._get_multi_ctas_kv_counter_buffer = lambda *args, **kwargs: None  # a buffer of its kernels

TYPES = ("auto", "fp8", "int8_per_token_head", "int4_per_token_head", "turboquant_k8v4", "turboquant_4bit_nc", "turboquant_k3v4_nc",
         "turboquant_3bit_nc", "nvfp4", "octave_k3v4", "ultraquant_4bit")
# D, F, layers, heads, key-value heads, value heads of linear attention, tied, tower
HYBRIDS = {
    "qwen3.5-0.8b": (1024, 3584, 24, 8, 2, 16, True, (768, 3072, 12, 12)),
    "qwen3.5-9b": (4096, 12288, 32, 16, 4, 32, False, (1152, 4304, 27, 16)),
    "qwen3.5-27b": (5120, 17408, 64, 24, 4, 48, False, (1152, 4304, 27, 16)),
}
# model, card, cards, type, prefix caching, context
ROWS = [("qwen3-vl-8b", "rtx-3090", 1, t, 1, 8192) for t in TYPES] + [("qwen3-vl-2b", "rtx-3090", 2, t, 1, 40000) for t in TYPES[:8]]
ROWS += [("qwen3.5-9b", "rtx-3090", 1, t, 1, 65536) for t in TYPES]
ROWS += [(m, "rtx-3090", n, t, p, c) for m in HYBRIDS for n, t, p, c in (
    (1, "auto", 1, 32768), (2, "auto", 1, 131072), (1, "fp8", 0, 262144), (2, "fp8", 1, 4096))]
ROWS += [("qwen3.5-27b", card, 1, t, 1, 65536) for card in ("h200", "b200", "rtx-5090") for t in ("auto", "fp8")]


def hybrid(folder, shape):
    hidden, wide, layers, heads, kv, values, tied, vision = shape
    from transformers import Qwen3_5Config
    config = Qwen3_5Config(tie_word_embeddings=tied)
    text, tower = config.text_config, config.vision_config
    text.hidden_size, text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads = hidden, layers, heads, kv
    text.layer_types = ["full_attention" if (i + 1) % 4 == 0 else "linear_attention" for i in range(layers)]
    text.head_dim, text.linear_num_value_heads, text.max_position_embeddings = 256, values, 262144
    text.tie_word_embeddings = tied
    text.intermediate_size, text.mamba_ssm_dtype = wide, "float32"  # as published
    tower.hidden_size, tower.intermediate_size, tower.depth, tower.num_heads = vision
    tower.out_hidden_size = hidden
    config.architectures = ["Qwen3_5ForConditionalGeneration"]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    processor().save_pretrained(folder)


def cut(folder, card, cards, kind, prefixes, context):
    """Tokens of a block, its bytes, blocks of the longest sequence and tokens that 10 GiB hold."""
    name, capability, size = CARDS[card]
    reads.CARD.update(name=name, capability=capability, bytes=size)
    arguments = ["--model", folder, "--enforce-eager", "--max-model-len", str(context), "--tensor-parallel-size", str(cards),
                 "--kv-cache-dtype", kind, "--enable-prefix-caching" if prefixes else "--no-enable-prefix-caching"]
    config, _ = shards.build_of(arguments, cards)
    with set_current_vllm_config(config):
        current_platform.update_block_size_for_backend(config)
        layers = get_layers_from_vllm_config(config, AttentionLayerBase)
        specs = {}
        for name, layer in layers.items():
            if spec := layer.get_kv_cache_spec(config):
                specs[name] = customize_attention_spec(layer.get_attn_backend(), spec) if isinstance(spec, AttentionSpec) else spec
        backends = {layers[name].get_attn_backend() for name in specs}
        layout = resolve_kv_cache_layout(config, [[x.name for x in get_supported_kv_cache_layouts(backends)]], specs.values())
        groups = get_kv_cache_groups(config, specs)
        cache = get_kv_cache_config_from_groups(config, groups, 10 << 30)
        tokens, concurrency = get_kv_cache_capacity(config, cache)
    return config.cache_config.block_size, bytes_per_block(groups, layout), round(cache.num_blocks / concurrency), tokens


def main():
    logging.disable(logging.WARNING)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["model", "card", "cards", "type", "prefixes", "context", "block", "bytes", "blocks", "tokens", "refused"])
    with tempfile.TemporaryDirectory() as folder:
        for name, *row in ROWS:
            path = os.path.join(folder, name)
            if not os.path.exists(path):
                save(path, MODELS[name]) if name in MODELS else hybrid(path, HYBRIDS[name])
            try:
                result = [*cut(path, *row), ""]
            except (AssertionError, NotImplementedError, ValueError, RuntimeError) as error:
                result = [0, 0, 0, 0, type(error).__name__]
                print(name, *row, error, file=sys.stderr)
            out.writerow([name, *row, *result])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
