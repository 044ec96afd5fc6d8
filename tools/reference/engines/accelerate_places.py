"""Where accelerate places Qwen3-VL in 16 bits under max_memory, on the meta device: bytes on the card, on the host and on the disk.

Keys of max_memory are numbers. What a card of so many bytes holds, and what the host needs so that nothing goes to the disk, for a
card that holds n layers and the room that is kept free.
"""
import torch
from accelerate import infer_auto_device_map, init_empty_weights
from accelerate.utils import compute_module_sizes, modeling
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

modeling.get_max_memory = lambda given: given  # no card is asked how much it has

# D, F, layers, heads, key-value heads, tied, C, I, depth, deepstack layers
SHAPES = {
    "2b": (2048, 6144, 28, 16, 8, True, 1024, 4096, 24, [5, 11, 17]),
    "4b": (2560, 9728, 36, 32, 8, True, 1024, 4096, 24, [5, 11, 17]),
    "8b": (4096, 12288, 36, 32, 8, False, 1152, 4304, 27, [8, 16, 24]),
}


def build(shape):
    hidden, wide, layers, heads, kv, tied, vision, vision_wide, depth, levels = shape
    config = Qwen3VLConfig(tie_word_embeddings=tied)
    text, tower = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = hidden, wide, layers
    text.num_attention_heads, text.num_key_value_heads, text.head_dim, text.vocab_size = heads, kv, 128, 151936
    tower.hidden_size, tower.intermediate_size, tower.depth, tower.num_heads = vision, vision_wide, depth, 16
    tower.out_hidden_size, tower.deepstack_visual_indexes = hidden, levels
    with init_empty_weights():
        model = Qwen3VLForConditionalGeneration._from_config(config, dtype=torch.float16)
    model.tie_weights()
    return model


def place(model, sizes, card, host):
    placed = infer_auto_device_map(
        model, max_memory={0: card, "cpu": host}, no_split_module_classes=model._no_split_modules, dtype=torch.float16)
    totals = {0: 0, "cpu": 0, "disk": 0}
    for name, where in placed.items():
        totals[where] += sizes[name]
    return totals


def least_host(model, sizes, card, rest):
    low, high = 0, 2 * rest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if place(model, sizes, card, middle)["disk"] == 0 else (middle, high)
    return high


def main():
    for name, shape in SHAPES.items():
        model = build(shape)
        sizes = compute_module_sizes(model, dtype=torch.float16)
        layer, embed = sizes["model.language_model.layers.0"], sizes["model.language_model.embed_tokens"]
        tower, head = sizes["model.visual"], sizes.get("lm_head", 0)
        for layers in (5, 12, 20):
            card = tower + embed + layers * layer + max(layer, head)
            totals = place(model, sizes, card, 1 << 50)
            under = place(model, sizes, card - 1, 1 << 50)
            rest = totals["cpu"]
            print(name, layers, "layers: card", card, "holds", totals[0], "and a byte less", under[0], "; host needs",
                  least_host(model, sizes, card, rest), "of", rest)


if __name__ == "__main__":
    main()
