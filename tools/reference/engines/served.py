"""What the readers of servers share: stubs for what is not installed, and the cards, models and limits that advise writes files for."""
import functools
import importlib.abc
import importlib.machinery
import json
import os
import subprocess
import sys
import types


class Anything(type):
    """A class of which every attribute is itself, and which stands in unions and subscripts."""
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __or__(cls, other):
        return other

    __ror__ = __or__


class Nothing(metaclass=Anything):
    def __init__(self, *args, **kwargs):
        pass

    def __class_getitem__(cls, item):
        return cls

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __iter__(self):
        return iter(())


class Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules of these names and below them are there, and everything in them is Nothing."""
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path, target=None):
        if any(name == s or name.startswith(s + ".") for s in self.names):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


CARDS = {
    "gtx-1080": ("NVIDIA GeForce GTX 1080", (6, 1), 8589934592),
    "rtx-3090": ("NVIDIA GeForce RTX 3090", (8, 6), 25447170048), "t4": ("Tesla T4", (7, 5), 15843721216),
    "rtx-4060": ("NVIDIA GeForce RTX 4060", (8, 9), 8414113136), "rtx-5090": ("NVIDIA GeForce RTX 5090", (12, 0), 33672557527),
    "a100-80gb": ("NVIDIA A100-SXM4-80GB", (8, 0), 85094825984), "h200": ("NVIDIA H200", (9, 0), 150754820096),
    "b200": ("NVIDIA B200", (10, 0), 191501854310), "gb10": ("NVIDIA GB10", (12, 1), 128526896332),
}
# D, F, layers, heads, key-value heads, tied, C, I, depth, deepstack layers
MODELS = {
    "qwen3-vl-2b": (2048, 6144, 28, 16, 8, True, 1024, 4096, 24, [5, 11, 17]),
    "qwen3-vl-4b": (2560, 9728, 36, 32, 8, True, 1024, 4096, 24, [5, 11, 17]),
    "qwen3-vl-8b": (4096, 12288, 36, 32, 8, False, 1152, 4304, 27, [8, 16, 24]),
    "qwen3-vl-32b": (5120, 25600, 64, 64, 8, False, 1152, 4304, 27, [8, 16, 24]),
}
LIMITS = [[], ["--concurrency", "16", "--context", "8192"], ["--concurrency", "4"], ["--image", "640x480", "--context", "2048"],
          ["--precision", "fp8"], ["--image", "1920x1080", "--context", "16384", "--concurrency", "2"]]
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
           "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>")


def save(folder, shape):
    hidden, wide, layers, heads, kv, tied, vision, vision_wide, depth, levels = shape
    from transformers import Qwen3VLConfig  # after the stubs
    config = Qwen3VLConfig(tie_word_embeddings=tied)
    text, tower = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = hidden, wide, layers
    text.num_attention_heads, text.num_key_value_heads, text.head_dim, text.vocab_size = heads, kv, 128, 151936
    text.max_position_embeddings = 262144
    tower.hidden_size, tower.intermediate_size, tower.depth, tower.num_heads = vision, vision_wide, depth, 16
    tower.out_hidden_size, tower.deepstack_visual_indexes = hidden, levels
    config.architectures, config.dtype = ["Qwen3VLForConditionalGeneration"], "bfloat16"
    config.save_pretrained(folder)
    processor().save_pretrained(folder)


@functools.cache
def processor():
    """The published processor's limits, with a tokenizer of single bytes in which the special tokens have their numbers."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor
    vocabulary = {c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary.update({"<unused%d>" % i: i for i in range(len(vocabulary), 151643)})
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[], additional_special_tokens=list(SPECIAL), eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>")
    patches = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 65536, "longest_edge": 16777216}, **patches),
        video_processor=Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 25165824}, **patches),
        tokenizer=tokenizer)


def vlmem(*arguments):
    """What vlmem says in JSON, None where it says that the model does not fit."""
    said = subprocess.run([os.environ.get("VLMEM", "vlmem"), *arguments, "--format", "json"], capture_output=True, text=True)
    if said.returncode == 3:
        return None
    if said.returncode:
        sys.exit(said.stderr)
    return json.loads(said.stdout)


# Of two alike cards; adapters are written for vLLM alone.
SEVERAL = [["--tensor-parallel", "2"], ["--pipeline-parallel", "2"], ["--data-parallel", "2", "--concurrency", "4"]]
ADAPTERS = [["--pipeline-parallel", "2", "--enable-lora", "--max-loras", "4", "--max-lora-rank", "64"]]


def bundles(target):
    """Every card, model and limits with what advise writes for it, then those of two cards."""
    if target != "transformers":
        for card in ("rtx-3090", "a100-80gb", "h200"):
            for limits in SEVERAL + (ADAPTERS if target == "vllm" else []):
                hardware = "i5-10210u+%s+%s" % (card, card)
                bundle = vlmem("advise", "--for", target, "--hardware", hardware, "--model", "qwen3-vl-8b", *limits)
                if bundle:
                    yield card, "qwen3-vl-8b", limits, bundle
    for card in CARDS:
        for model in MODELS:
            for limits in LIMITS:
                bundle = vlmem("advise", "--for", target, "--hardware", "i5-10210u+" + card, "--model", model, *limits)
                if bundle:
                    yield card, model, limits, bundle


def tell(files, bad):
    print(files, "files,", files - bad, "taken as meant")
    sys.exit(bad != 0 or files == 0)
