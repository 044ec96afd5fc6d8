"""Gives what `vlmem advise --for vllm` writes to vLLM's own parser and configuration builder, under a platform of a named card.

    VLMEM=./vlmem python vllm_reads.py           every card, model and limit below
    python vllm_reads.py --flags                 the parser's options with their choices

Compiled extensions and optional libraries are stubs: neither parser nor builder calls them. Exits with 1 where a file is refused or
scheduled tokens, sequences, or the images and patches of MultiModalBudget's profile differ from the estimate's.
"""
import functools
import importlib.abc
import importlib.machinery
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import types

STUBBED = (
    "vllm._C", "vllm._moe_C", "vllm._C_stable_libtorch", "vllm.vllm_flash_attn", "flashinfer", "xgrammar", "outlines_core",
    "llguidance", "lmformatenforcer", "loguru", "numba", "tilelang", "tvm_ffi", "quack", "nvtx", "pynvml", "nvidia", "humming",
    "PyNvVideoCodec", "instanttensor", "fastsafetensors", "tokenspeed_mla", "ray", "uvloop",
)


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
    def find_spec(self, name, path, target=None):
        if any(name == s or name.startswith(s + ".") for s in STUBBED):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, Stubs())
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
import torch.library  # noqa: E402

_operator = torch._ops._OpNamespace.__getattr__


def operator(self, name):
    """An operator of an extension that is not there answers no."""
    try:
        return _operator(self, name)
    except AttributeError:
        if self.name.startswith("_") or "vllm" in self.name:
            return lambda *args, **kwargs: False
        raise


torch._ops._OpNamespace.__getattr__ = operator
torch.library.register_fake = lambda *args, **kwargs: (lambda function: function)

import vllm.platforms as platforms  # noqa: E402
from vllm.platforms.cuda import CudaPlatformBase  # noqa: E402
from vllm.platforms.interface import DeviceCapability  # noqa: E402

CARD = {"name": "NVIDIA GeForce RTX 3090", "capability": (8, 6), "bytes": 25447170048}


class Named(CudaPlatformBase):
    @classmethod
    def get_device_capability(cls, device_id=0):
        return DeviceCapability(*CARD["capability"])

    @classmethod
    def get_device_name(cls, device_id=0):
        return CARD["name"]

    @classmethod
    def get_device_total_memory(cls, device_id=0):
        return CARD["bytes"]

    @classmethod
    def has_device_capability(cls, capability, device_id=0):
        return CARD["capability"] >= (capability if isinstance(capability, tuple) else divmod(capability, 10))

    @classmethod
    def is_device_capability(cls, capability, device_id=0):
        return CARD["capability"] == (capability if isinstance(capability, tuple) else divmod(capability, 10))

    @classmethod
    def device_count(cls):
        return 8


platforms._current_platform = Named()

import vllm.model_executor.models.registry as registry  # noqa: E402
from tokenizers.pre_tokenizers import ByteLevel  # noqa: E402
from transformers import (  # noqa: E402
    Qwen2TokenizerFast, Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor)
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.multimodal import MULTIMODAL_REGISTRY  # noqa: E402
from vllm.multimodal.encoder_budget import MultiModalBudget  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

registry._run_in_subprocess = lambda function: function()  # where the stubs are

CARDS = {
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
    vocabulary = {c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary.update({"<unused%d>" % i: i for i in range(len(vocabulary), 151643)})
    tokenizer = Qwen2TokenizerFast(vocab=vocabulary, merges=[], additional_special_tokens=list(SPECIAL), eos_token="<|im_end|>",
                                   pad_token="<|endoftext|>")
    patches = dict(patch_size=16, temporal_patch_size=2, merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 65536, "longest_edge": 16777216}, **patches),
        video_processor=Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 25165824}, **patches),
        tokenizer=tokenizer)


def parser():
    p = FlexibleArgumentParser()
    p.add_argument("--config")
    return AsyncEngineArgs.add_cli_args(p)


def compare(bundle, folder):
    """What differs between the builder's configuration and the estimate, "" for nothing."""
    path = os.path.join(folder, "vllm.yaml")
    with open(path, "w") as f:
        f.write(re.sub(r"^model: .*$", 'model: "%s"' % folder, bundle["files"][0]["content"], flags=re.M))
    try:
        arguments = parser().parse_args(["--config", path])
    except SystemExit:
        return "the parser refuses the file"
    config = AsyncEngineArgs.from_cli_args(arguments).create_engine_config(UsageContext.OPENAI_API_SERVER)
    budget = MultiModalBudget(config, MULTIMODAL_REGISTRY, enable_cache=False)
    modality = budget.get_modality_with_max_tokens()
    images, patches = profiled(budget, modality)
    seen = (config.scheduler_config.max_num_batched_tokens, config.scheduler_config.max_num_seqs, images, patches)
    why = {i["name"]: i["why"] for i in bundle["estimate"]["items"]}
    tower = re.search(r"on (\d+) of \d+x\d+, (\d+) patches", why["vision"])
    said = (int(why["input embeddings"].split()[0]), int(why["penalty counts"].split()[0]), int(tower[1]), int(tower[2]))
    if said == seen:
        return ""
    return "%d tokens, %d sequences, %d images of %d patches in all; vLLM has %d, %d, %d, %d" % (*said, *seen)


def profiled(budget, modality):
    """How many items the profile run sends through the tower, and their patches: the dummy goes through the processor."""
    inputs = budget.get_dummy_encoder_profile_inputs(modality)
    data = inputs[0][1].get_data()
    pixels = data.get("pixel_values", data.get("pixel_values_videos"))
    return len(inputs), len(inputs) * pixels.shape[0]


def main():
    if "--flags" in sys.argv:
        for action in parser()._actions:
            for option in action.option_strings:
                if option.startswith("--"):
                    print(option[2:], *[str(c) for c in action.choices or []])
        return
    logging.disable(logging.WARNING)
    files = bad = 0
    for card, (name, capability, size) in CARDS.items():
        CARD.update(name=name, capability=capability, bytes=size)
        for model, shape in MODELS.items():
            for limits in LIMITS:
                said = subprocess.run(
                    [os.environ.get("VLMEM", "vlmem"), "advise", "--for", "vllm", "--hardware", "i5-10210u+" + card, "--model", model,
                     "--format", "json", *limits], capture_output=True, text=True)
                if said.returncode == 3:
                    continue  # it does not fit, and says so
                with tempfile.TemporaryDirectory() as folder:
                    save(folder, shape)
                    differs = compare(json.loads(said.stdout), folder)
                files, bad = files + 1, bad + bool(differs)
                print(files, card, model, *limits, "differs" if differs else "taken", file=sys.stderr, flush=True)
                if differs:
                    print(card, model, *limits, differs)
    print(files, "files,", files - bad, "taken as meant")
    sys.exit(bad != 0 or files == 0)


if __name__ == "__main__":
    main()
