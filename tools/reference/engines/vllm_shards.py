"""Builds Qwen3-VL on the meta device by vLLM's own classes, as one card of many holds it, and writes what it weighs.

    python vllm_shards.py > internal/engine/testdata/vllm_shards.csv

Each row: cards that share a layer, stages, copies, whole experts, the stage, adapters and their rank; then bytes of the decoder's and of
the tower's weights and of the adapters' buffers, the stage's layers, or the word of the class that refused it. Process groups are stand-ins
that say their size and place; MoE kernels, which the wheel's extensions choose, are left out.
"""
import csv
import logging
import os
import sys
import tempfile

os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "1"  # as with Triton, which needs a card

import vllm_reads as reads  # noqa: E402
from served import MODELS, processor, save  # noqa: E402

import torch  # noqa: E402
import vllm.distributed.parallel_state as state  # noqa: E402
import vllm.lora.layers.fused_moe as moe  # noqa: E402
import vllm.lora.model_manager as adapters  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.lora.layers.utils import _get_lora_device  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.utils.torch_utils import set_default_torch_dtype  # noqa: E402

reads.Named.device_count = classmethod(lambda cls: 256)

# model, then tensor, stages, copies, whole experts, stage, adapters, rank
ROWS = [
    ("qwen3-vl-2b", 1, 1, 1, 0, 0, 0, 0), ("qwen3-vl-2b", 2, 2, 1, 0, 0, 0, 0), ("qwen3-vl-2b", 1, 2, 1, 0, 1, 0, 0),
    ("qwen3-vl-2b", 1, 1, 1, 0, 0, 2, 16), ("qwen3-vl-2b", 2, 1, 1, 0, 0, 1, 32), ("qwen3-vl-2b", 1, 2, 1, 0, 1, 1, 16),
    ("qwen3-vl-2b", 1, 12, 1, 0, 1, 0, 0), ("qwen3-vl-2b", 1, 1, 1, 1, 0, 0, 0), ("qwen3-vl-2b", 1, 1, 1, 0, 0, 1, 24),
    ("qwen3-vl-8b", 1, 1, 4, 0, 0, 0, 0), ("qwen3-vl-8b", 2, 2, 1, 0, 0, 4, 8), ("qwen3-vl-8b", 16, 1, 1, 0, 0, 0, 0),
    ("qwen3-vl-8b", 1, 5, 1, 0, 0, 0, 0), ("qwen3-vl-8b", 1, 5, 1, 0, 2, 0, 0), ("qwen3-vl-8b", 1, 5, 1, 0, 3, 0, 0),
    ("qwen3-vl-8b", 1, 5, 1, 0, 4, 0, 0), ("qwen3-vl-8b", 3, 1, 1, 0, 0, 0, 0), ("qwen3-vl-8b", 32, 1, 1, 0, 0, 0, 0),
    ("qwen3-vl-30b-a3b", 1, 1, 1, 0, 0, 0, 0), ("qwen3-vl-30b-a3b", 2, 1, 2, 1, 0, 0, 0),
    ("qwen3-vl-30b-a3b", 2, 1, 2, 0, 0, 0, 0), ("qwen3-vl-30b-a3b", 1, 1, 3, 1, 0, 0, 0),
    ("qwen3-vl-30b-a3b", 2, 3, 2, 1, 1, 0, 0), ("qwen3-vl-30b-a3b", 8, 1, 1, 0, 0, 0, 0),
    ("qwen3-vl-30b-a3b", 1, 1, 1, 0, 0, 1, 16), ("qwen3-vl-30b-a3b", 2, 1, 1, 1, 0, 2, 32),
    ("qwen3-vl-30b-a3b", 4, 1, 1, 0, 0, 2, 32), ("qwen3-vl-30b-a3b", 1, 1, 5, 0, 0, 0, 0),
]


class Group:
    """A process group of which this is one card."""
    use_custom_op_call = False

    def __init__(self, size, rank):
        self.world_size, self.rank, self.rank_in_group, self.ranks = size, rank, rank, list(range(size))
        self.local_rank, self.first_rank, self.last_rank = rank, 0, size - 1
        self.device_group = self.cpu_group = self
        self.is_first_rank, self.is_last_rank = rank == 0, rank == size - 1

    def size(self):
        return self.world_size


class Silent:
    """What runs kernels."""
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def experts(self, layer):
    """FusedMoEWithLoRA without the kernel that its own constructor asks for."""
    moe.BaseLayerWithLoRA.__init__(self)
    self.base_layer, self.moe_config = layer, layer.moe_config
    parallel = self.moe_config.moe_parallel_config
    self.tp_size, self.tp_rank, self.device = parallel.tp_size, parallel.tp_rank, _get_lora_device(layer)
    self._w13_slices = 2 if self.moe_config.is_act_and_mul else 1
    self.enable_moe_shared_loras = False


moe.FusedMoEWithLoRA.__init__ = experts
moe.FusedMoEWithLoRA.set_mapping = lambda self, wrapper: None
adapters.get_punica_wrapper = lambda *args, **kwargs: Silent()


def mixture(folder):
    from transformers import Qwen3VLMoeConfig
    config = Qwen3VLMoeConfig(tie_word_embeddings=False)
    text, tower = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 2048, 6144, 48
    text.num_attention_heads, text.num_key_value_heads, text.head_dim, text.vocab_size = 32, 4, 128, 151936
    text.num_experts, text.num_experts_per_tok, text.moe_intermediate_size, text.norm_topk_prob = 128, 8, 768, True
    text.max_position_embeddings = 262144
    tower.hidden_size, tower.intermediate_size, tower.depth, tower.num_heads = 1152, 4304, 27, 16
    tower.out_hidden_size, tower.deepstack_visual_indexes = 2048, [8, 16, 24]
    config.architectures, config.dtype = ["Qwen3VLMoeForConditionalGeneration"], "bfloat16"
    config.save_pretrained(folder)
    processor().save_pretrained(folder)


def build(folder, tensor, stages, copies, whole, stage, loras, rank):
    arguments = ["--model", folder, "--enforce-eager", "--max-model-len", "4096", "--tensor-parallel-size", str(tensor),
                 "--pipeline-parallel-size", str(stages), "--data-parallel-size", str(copies)]
    arguments += ["--enable-expert-parallel"] if whole else []
    arguments += ["--enable-lora", "--max-loras", str(loras), "--max-lora-rank", str(rank)] if loras else []
    return build_of(arguments, tensor, stages, copies, stage)


def build_of(arguments, tensor, stages=1, copies=1, stage=0):
    """The configuration of these arguments, and the model as one card holds it."""
    config = reads.AsyncEngineArgs.from_cli_args(reads.parser().parse_args(arguments)).create_engine_config(
        reads.UsageContext.OPENAI_API_SERVER)
    state._TP, state._PP, state._DP, state._EP = Group(tensor, 0), Group(stages, stage), Group(copies, 0), Group(tensor * copies, 0)
    state._DCP, state._PCP, state._WORLD = Group(1, 0), Group(1, 0), Group(tensor * stages * copies, 0)
    with set_current_vllm_config(config), torch.device("meta"), set_default_torch_dtype(torch.bfloat16):
        return config, initialize_model(config)


def weigh(model):
    """Bytes of the decoder's and of the tower's weights: without rotary tables, scales of the cache and what normalises pixels."""
    seen = {id(p): (name, p) for name, p in model.named_parameters()}
    sums = [0, 0]
    for name, p in seen.values():
        if not any(word in name for word in ("_scale", "cos_sin_cache", "input_norm", "_expert_map")):
            sums[name.startswith("visual")] += p.numel() * p.element_size()
    return sums


def buffers(config, model):
    """Bytes of what the manager of adapters lays beside the layers."""
    def tensors(value):
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            for part in value:
                yield from tensors(part)

    with set_current_vllm_config(config), torch.device("meta"):
        manager = adapters.LoRAModelManager(
            model, config.scheduler_config.max_num_seqs, config.scheduler_config.max_num_batched_tokens, 151936, config.lora_config,
            torch.device("meta"), config)
    found = {}
    for module in manager.modules.values():
        for name, value in vars(module).items():
            if name.endswith("_stacked"):
                found.update({id(t): t.numel() * t.element_size() for t in tensors(value)})
    return sum(found.values())


def main():
    logging.disable(logging.WARNING)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["model", "tensor", "stages", "copies", "experts", "stage", "loras", "rank", "decoder", "tower", "lora", "first", "end", "refused"])
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: os.path.join(folder, name) for name in ("qwen3-vl-2b", "qwen3-vl-8b", "qwen3-vl-30b-a3b")}
        for name, path in paths.items():
            mixture(path) if name not in MODELS else save(path, MODELS[name])
        for name, *layout in ROWS:
            try:
                config, model = build(paths[name], *layout)
                language = model.language_model.model
                result = [*weigh(model), 0, language.start_layer, language.end_layer, ""]
                if layout[5]:
                    result[2] = buffers(config, model)
            except SystemExit:
                result = [0, 0, 0, 0, 0, "parser"]
            except (AssertionError, ValueError) as error:
                result = [0, 0, 0, 0, 0, type(error).__name__]
            out.writerow([name, *layout, *result])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
