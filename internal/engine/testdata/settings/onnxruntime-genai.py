# written by vlmem for ONNX Runtime GenAI 0.18.0
import onnxruntime_genai

MODEL_PATH = "qwen3-vl-8b-onnx-cpu-int4"


def load():
    config = onnxruntime_genai.Config(MODEL_PATH)
    with open("onnxruntime-genai.json") as overlay:
        config.overlay(overlay.read())
    return onnxruntime_genai.Model(config)
