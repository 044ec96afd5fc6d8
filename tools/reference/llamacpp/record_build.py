#!/usr/bin/env python3
"""What one build of llama.cpp reserves, held against vlmem's rules for builds.

    record_build.py VERSION VLMEM [FOLDER]

VERSION is one of PyPI's xllamacpp, whose last number is llama.cpp's build (2026.10.11549, 0.2.6 for b7079), or "newest"; VLMEM
the binary to ask. The package is installed into FOLDER (default: a temporary one), where headers of full size over zeros are
written too: no weights are needed. Rows are printed for internal/engine/llamacpp_build.go, with the number of the graph's inputs,
which tells graphs apart. Where a buffer is off, the builds whose rules would give what was seen are named: the graph went back to theirs,
or none does and it is new. Exit 0 where every compute buffer is within 0.5 % of vlmem's, 1 where one is not.
"""
import json, os, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {"2b": (28, 2048, 16, 6144), "4b": (36, 2560, 32, 9728)}
SETTINGS = [dict(n_ctx=8192, n_parallel=1), dict(n_ctx=16384, n_parallel=4)]
SERVER = """
import os, sys, time, json
sys.path.insert(0, sys.argv[1]); import xllamacpp
p = xllamacpp.CommonParams(); p.model.path = sys.argv[2]
for k, v in dict(dict(warmup=False, verbosity=4, port=0), **json.loads(sys.argv[3])).items():
    try: setattr(p, k, v)
    except Exception as e: print('not in this version:', k, e)
xllamacpp.Server(p); time.sleep(0.5); os._exit(0)
"""


def write(size, path):
    sys.path.insert(0, HERE)
    import write_gguf as w
    layers, width, heads, ff = SIZES[size]
    text = dict(vocab_size=151936, num_hidden_layers=layers, max_position_embeddings=262144, hidden_size=width,
                intermediate_size=ff, num_attention_heads=heads, num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-6,
                rope_theta=5e6)
    config = dict(text_config=text, vision_config=dict(deepstack_visual_indexes=[5, 11, 17]), tie_word_embeddings=True)
    w.write(w.metadata(config), list(w.tensors(config, "q8_0")), path)


def run(package, model, settings):
    with tempfile.TemporaryFile("w+", errors="replace") as out:
        p = subprocess.Popen([sys.executable, "-c", SERVER, package, model, json.dumps(settings)], stdout=out,
                             stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            p.wait(60)  # some builds do not end by themselves: what they printed while loading is all that is wanted
        except subprocess.TimeoutExpired:
            p.kill()
        out.seek(0)
        log = out.read()
    found = re.findall(r"(?<!\w)CPU compute buffer size =\s*([\d.]+) MiB", log)
    if not found:
        sys.exit("no compute buffer in the log: %s" % log[-500:])
    return float(found[0]), "".join(re.findall(r"input tensors = (\d+)", log)[:1]) or "not said"


def estimated(vlmem, build, size, settings):
    r = subprocess.run([vlmem, "estimate", "--model", "qwen3-vl-" + size, "--quant", "q8_0", "--engine", "llama-server", "--device",
                        "cpu", "--image", "none", "--ctx", str(settings["n_ctx"]), "--parallel", str(settings["n_parallel"]),
                        "--build", build, "--format", "json"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return next(i["bytes"] / 2**20 for i in json.loads(r.stdout)["items"] if i["name"] == "compute")


# A build of each epoch of internal/engine/llamacpp_build.go.
EPOCHS = ["b5129", "b5671", "b6123", "b6628", "b7079", "b7551", "b7827", "b8672", "b9538", "b11549"]


def changed(vlmem, rows, build):
    """names what differs from the rules that are followed for this build"""
    like = [b for b in EPOCHS if all(abs(estimated(vlmem, b, size, s) / seen - 1) <= 0.005 for size, s, seen, _ in rows)]
    for size, s, seen, inputs in rows:
        claimed = estimated(vlmem, build, size, s)
        if abs(claimed / seen - 1) > 0.005:
            print("changed: %s, %d cells in %d slots, %s inputs: %.2f MiB, by the rules of %s %.2f" %
                  (size, s["n_ctx"], s["n_parallel"], inputs, seen, build, claimed))
    print("changed: its buffers are those of", " and ".join(like) if like else "no build that is known")


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    version, vlmem = sys.argv[1], os.path.abspath(sys.argv[2])
    folder = sys.argv[3] if len(sys.argv) == 4 else tempfile.mkdtemp()
    package = os.path.join(folder, "xl-" + version)
    if not os.path.isdir(package):
        name = "xllamacpp" if version == "newest" else "xllamacpp==" + version
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", package, name], check=True)
    info = next(m for m in (re.match(r"xllamacpp-([\d.]+)\.dist-info$", d) for d in os.listdir(package)) if m)
    number = info[1].split(".")
    build = "b7079" if number == ["0", "2", "6"] else "b" + number[-1]
    worst, rows = 0.0, []
    for size in SIZES:
        model = os.path.join(folder, size + ".gguf")
        if not os.path.exists(model):
            write(size, model)
        for settings in SETTINGS:
            seen, inputs = run(package, model, settings)
            claimed = estimated(vlmem, build, size, settings)
            rows.append((size, settings, seen, inputs))
            worst = max(worst, abs(claimed / seen - 1))
            print(build, size, settings, "compute %.2f MiB, vlmem %.2f (%+.2f %%)" % (seen, claimed, 100 * (claimed / seen - 1)),
                  "inputs", inputs, flush=True)
    if worst > 0.005:
        changed(vlmem, rows, build)
    print("worst %.2f %%%s" % (100 * worst, "" if worst <= 0.005 else ": add an epoch to internal/engine/llamacpp_build.go"))
    sys.exit(worst > 0.005)


if __name__ == "__main__":
    main()
