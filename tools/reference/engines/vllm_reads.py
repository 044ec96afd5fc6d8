"""Gives what `vlmem advise --for vllm` writes to vLLM's own parser and configuration builder, under a platform of a named card.

    VLMEM=./vlmem python vllm_reads.py           every card, model and limit below
    python vllm_reads.py --flags                 the parser's options with their choices

Compiled extensions and optional libraries are stubs: neither parser nor builder calls them. Exits with 1 where a file is refused or
scheduled tokens, sequences, or the images and patches of MultiModalBudget's profile differ from the estimate's.
"""
import logging
import os
import re
import sys
import tempfile

from served import CARDS, MODELS, Stubs, bundles, save, tell

STUBBED = (
    "vllm._C", "vllm._moe_C", "vllm._C_stable_libtorch", "vllm.vllm_flash_attn", "flashinfer", "xgrammar", "outlines_core",
    "llguidance", "lmformatenforcer", "loguru", "numba", "tilelang", "tvm_ffi", "quack", "nvtx", "pynvml", "nvidia", "humming",
    "PyNvVideoCodec", "instanttensor", "fastsafetensors", "tokenspeed_mla", "ray", "uvloop",
)

sys.meta_path.insert(0, Stubs(STUBBED))
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
from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: E402
from vllm.multimodal import MULTIMODAL_REGISTRY  # noqa: E402
from vllm.multimodal.encoder_budget import MultiModalBudget  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: E402

registry._run_in_subprocess = lambda function: function()  # where the stubs are


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
    sequences = int(why["penalty counts"].split()[0]) if "penalty counts" in why else seen[1]  # counted at the last stage alone
    said = (int(why["input embeddings"].split()[0]), sequences, int(tower[1]), int(tower[2]))
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
    for card, model, limits, bundle in bundles("vllm"):
        name, capability, size = CARDS[card]
        CARD.update(name=name, capability=capability, bytes=size)
        with tempfile.TemporaryDirectory() as folder:
            save(folder, MODELS[model])
            differs = compare(bundle, folder)
        files, bad = files + 1, bad + bool(differs)
        print(files, card, model, *limits, differs or "taken", file=sys.stderr, flush=True)
    tell(files, bad)


if __name__ == "__main__":
    main()
