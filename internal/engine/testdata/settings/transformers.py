# written by vlmem for transformers 5.24.0
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

FROM_PRETRAINED = {
    "pretrained_model_name_or_path": "Qwen/Qwen3-VL-8B-Instruct",  # what to load
    "dtype": "float16",  # bfloat16 needs compute capability 8.0, this card has 6.1
    "attn_implementation": "sdpa",  # fused attention where the card has it
    "device_map": "auto",  # fills the card first, then the host
    "max_memory": {0: "6144MiB", "cpu": "24576MiB"},  # weights alone, with the room through which those of the host pass
}
IMAGE_PROCESSOR = {
    "size": {"shortest_edge": 65536, "longest_edge": 2088960},  # areas in pixels, of images alone: a video's frames have a limit of their own
}
GENERATE = {
}
TORCH = {
    "set_num_threads": 4,  # physical cores; left out, PyTorch counts the CPUs of its affinity, and no quota
}


def load():
    for name, value in TORCH.items():
        getattr(torch, name)(value)
    path = FROM_PRETRAINED["pretrained_model_name_or_path"]
    model = AutoModelForImageTextToText.from_pretrained(**FROM_PRETRAINED)
    processor = AutoProcessor.from_pretrained(path)
    for name, value in IMAGE_PROCESSOR.items():
        setattr(processor.image_processor, name, value)
    return model, processor, GENERATE
