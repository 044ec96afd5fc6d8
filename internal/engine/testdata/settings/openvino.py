# written by vlmem for OpenVINO GenAI 2026.4.1
import openvino_genai

PIPELINE = {
    "models_path": "qwen3-vl-8b-int8-ov",  # the exported folder
    "device": "CPU",  # its GPU is Intel's; a CUDA card is not used
    "KV_CACHE_PRECISION": "u8",  # type of the cache
    "INFERENCE_NUM_THREADS": 4,  # physical cores
    "PERFORMANCE_HINT": "LATENCY",  # one stream: every stream more computes beside it
}


def load():
    return openvino_genai.VLMPipeline(**PIPELINE)
