#!/usr/bin/env python3
"""A checkpoint of Qwen3-VL-2B with random weights, and one generate() call over it as users make it.

    generate.py make FOLDER [bf16|fp32]            real sizes; transformers writes its own safetensors
    generate.py run FOLDER WIDTHxHEIGHT PROMPT NEW

PROMPT counts all tokens of the question, those of the image too. `run` loads with from_pretrained, on the CPU, and prints what the
process held, by /proc/self/status, after importing, loading and answering.
"""
import pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))


def held(when):
    found = {l.split(":")[0]: int(l.split()[1]) // 1024 for l in open("/proc/self/status") if l.startswith(("VmHWM", "VmRSS", "Rss"))}
    print(when, " ".join("%s %d MiB" % i for i in found.items()), flush=True)


def make(folder, dtype="bf16"):
    import record
    record.torch.manual_seed(1)
    record.build("2b", 28, 24, [5, 11, 17], 0, "sdpa", dtype).save_pretrained(folder)


def run(folder, size, prompt, new):
    import record
    from transformers import Qwen3VLForConditionalGeneration
    held("imported")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
    held("loaded")
    width, height = map(int, size.split("x"))
    image = width * height // 1024 + 2  # tokens, with the marks around it
    given = record.inputs(model.config, width, height, 1, 0, int(prompt) - image, 1)
    with record.torch.no_grad():
        out = model.generate(**given, max_new_tokens=int(new), min_new_tokens=int(new), do_sample=False, pad_token_id=0)
    held("%d tokens answered" % (out.shape[1] - given["input_ids"].shape[1]))


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("make", "run"):
        sys.exit(__doc__)
    {"make": make, "run": run}[sys.argv[1]](*sys.argv[2:])
