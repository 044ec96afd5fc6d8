#!/usr/bin/env python3
"""Random models and settings through a real llama.cpp and through vlmem, compared to the byte.

    random_settings.py SEED RUNS VLMEM server FOLDER        PyPI's xllamacpp, installed into FOLDER: the server's own code, on the CPU
    random_settings.py SEED RUNS VLMEM reserve PROGRAM      reserve.cpp over a released library, on the CPU
    random_settings.py SEED RUNS VLMEM cards PROGRAM [N]    the same with N cards (1) of its CUDA backend over nocard.cpp
    random_settings.py SEED RUNS VLMEM vulkan PROGRAM       the same on a Vulkan device, such as Mesa's lavapipe (GGML_VK_VISIBLE_DEVICES=0)

VLMEM is the binary to ask. Misses are printed with the command that repeats them, then how many agree to the byte (a server prints
hundredths of a MiB, devices align differently), how many within 1 %, and how many both refused. Exit 1 where fewer than 95 % agree to the byte, where one is
more than 1 % off, or where one refuses what the other takes. With UNEVEN=1 cards differ in what is free on them, and layers are
shared out by that or by what -ts says; with UNEVEN=fit llama.cpp fits the context to it. Where ANSWERS names a file, what the engine says is kept in it: a run that
was cut goes on where it stopped, and another vlmem is held to the same answers within a minute.
"""
import json, os, random, re, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import write_gguf, write_text_gguf

MiB = 1048576
VLMEM, WAY, TARGET = "", "", ""
KINDS = os.environ.get("KINDS", "").split()  # of models, by model_type; all where none is named
CARDS = 1
UNEVEN = os.environ.get("UNEVEN", "")
SERVER = """
import os, sys, time, json
sys.path.insert(0, sys.argv[1]); import xllamacpp as x
p = x.CommonParams(); p.model.path = sys.argv[2]
for k, v in json.loads(sys.argv[3]).items():
    kind = {'cache_type_k': 'ggml_type', 'cache_type_v': 'ggml_type', 'flash_attn_type': 'llama_flash_attn_type'}.get(k)
    setattr(p, k, getattr(getattr(x, kind), v) if kind else v)
try: server = x.Server(p)  # kept: one that is let go waits for its threads
except RuntimeError as e: print(e)
time.sleep(0.2)
sys.stdout.flush(); os._exit(0)  # threads of one that was refused would never end
"""


def model(pick, chance, path, text_only):
    "a small decoder of a random shape, written to path; returns what it is called"
    kind = pick(KINDS or ["qwen3", "llama", "qwen2", "gemma3_text", "gemma2", "qwen3_moe"] + ["qwen3_vl", "qwen3_vl_moe"] * (0 if text_only else 3))
    heads = pick([4, 6, 8, 12])
    c = dict(model_type=kind, hidden_size=pick([512, 768, 1024, 1280]), num_hidden_layers=pick([3, 5, 7]), num_attention_heads=heads,
             num_key_value_heads=pick([n for n in (1, 2, 3, 4, 6, 8, 12) if heads % n == 0]), intermediate_size=pick([512, 1024, 2816, 3072]),
             head_dim=pick([64, 80, 96, 128, 256]), vocab_size=pick([1000, 32000, 50257]), max_position_embeddings=40960,
             tie_word_embeddings=chance(0.5) or kind.startswith("gemma"), rms_norm_eps=1e-6, rope_theta=1e4)
    if kind in ("qwen2", "qwen2_5_vl"):
        c["hidden_size"] = heads * c["head_dim"]  # its converter writes no other head size
    if kind.startswith("gemma"):
        c.update(sliding_window=pick([512, 1024]), sliding_window_pattern=6)
    if kind.endswith("moe"):
        c.update(num_experts=pick([4, 8, 16]), num_experts_per_tok=pick([1, 2, 4]), moe_intermediate_size=pick([256, 512]))
    if kind.startswith("qwen3_5"):
        n, width = pick([2, 4, 8]), pick([64, 128])
        c.update(linear_num_key_heads=n, linear_num_value_heads=n * pick([1, 2, 3]), linear_key_head_dim=width, linear_value_head_dim=width,
                 linear_conv_kernel_dim=4, full_attention_interval=pick([2, 4]), num_hidden_layers=pick([4, 6, 8]),
                 head_dim=pick([64, 128, 256]), mtp_num_hidden_layers=pick([0, 1]))
    if kind == "qwen3_5_moe_text":
        c.update(num_experts=pick([4, 8, 16]), num_experts_per_tok=pick([1, 2, 4]), moe_intermediate_size=pick([256, 512]),
                 shared_expert_intermediate_size=pick([256, 512]))
    quant = pick(["f16", "q8_0", "q4_0", "q4_k", "bf16"])
    if kind.startswith("qwen3_vl"):
        c["head_dim"] = 128
        c = dict(text_config=c, vision_config=dict(deepstack_visual_indexes=[1, 2]), tie_word_embeddings=c["tie_word_embeddings"])
        if "moe" not in kind:
            c["text_config"].pop("num_experts", None)
        write_gguf.write(write_gguf.metadata(c), list(write_gguf.tensors(c, quant)), path)
    else:
        write_text_gguf.write(write_text_gguf.metadata(c), list(write_text_gguf.tensors(c, fit(quant, c))), path)
    return kind + " " + quant, c.get("text_config", c)


def fit(quant, c):
    "q4_k needs rows of 256"
    rows = [c.get("linear_num_value_heads", 2) * c.get("linear_value_head_dim", 128), c.get("shared_expert_intermediate_size", 256), c["hidden_size"], c["intermediate_size"], c["num_attention_heads"] * c["head_dim"], c.get("moe_intermediate_size", 256)]
    return "q8_0" if quant == "q4_k" and any(r % 256 for r in rows) else quant


def settings(pick, chance, shape):
    "what is set, by the long name of llama-server; None where it is left out"
    slots = pick([None, 1, 1, 2, 3, 4])
    types = ["f16", "f16", "q8_0", "q4_0", "q5_1", "bf16", "iq4_nl", "f32"]
    k = pick(types)
    s = {"ctx-size": pick([256, 1000, 4096, 5000, 10000, 32768]), "batch-size": pick([512, 2048, 2048]),
         "ubatch-size": pick([32, 64, 128, 300, 512, 512, 1024]), "parallel": slots, "kv-unified": bool(slots) and chance(0.3),
         "cache-type-k": k, "cache-type-v": k if chance(0.7) else pick(types), "flash-attn": pick(["auto", "on", "off"]),
         "no-repack": chance(0.4)}
    if s["ctx-size"] < (slots or 4) * 64:
        s["ctx-size"] = 4096
    if WAY in ("cards", "vulkan"):
        layers = shape["num_hidden_layers"]
        s.update({"n-gpu-layers": pick([None, None, 0, 1, layers // 2 + 1, layers]), "no-kv-offload": chance(0.15),
                  "no-op-offload": chance(0.15)})
        if chance(0.35):
            s["override-tensor"] = pick(["ffn_.*=CPU", "attn_(q|k)\\.weight=CPU", "blk\\.1\\.=CPU", "ffn_down=CPU", "exps=CPU",
                                         "token_embd=%s0" % ("Vulkan" if WAY == "vulkan" else "CUDA"), "output\\.weight=CPU", "blk\\.[02]\\..*norm=CPU"])
        if "num_experts" in shape and chance(0.4):
            s["n-cpu-moe"] = pick([1, 2, layers])
    if UNEVEN:
        s["free"] = [pick(range(1500, 9000)) * MiB for _ in range(CARDS)]
        s["tensor-split"] = pick([None, None, "3,1", "0,0", "1,2,3,4", "0,1", "1"])
    if UNEVEN == "fit":
        s.update({"ctx-size": 0, "tensor-split": None, "n-gpu-layers": None, "override-tensor": None, "n-cpu-moe": None})
        s["free"] = [pick(range(1200, 3000)) * MiB for _ in range(CARDS)]
    return s


def flags(s, names):
    out = []
    for key, value in s.items():
        if key == "ctx-size" and value == 0:
            if not names:
                continue  # -c 0 asks for all of it
            value = "auto"
        name = "--" + names.get(key, key)
        if value is None or value is False or names.get(key) == "" or key == "free":
            continue
        out += [name] if value is True else [name, str(value)]
    return out


def reserve(path, s):
    "{buffer: (weights, cache, compute)} in bytes, or None and why not"
    args = [TARGET, "-m", path, "--fit", "on" if UNEVEN else "off", "--load-mode", "none", "-t", "1", "-lv", "1"] + flags(s, {})
    env = dict(os.environ, NOCARD_CARDS=str(CARDS), NOCARD_FREE=",".join(map(str, s.get("free", []))))
    p = subprocess.run(args, env=env, capture_output=True, text=True, errors="replace", timeout=120)
    if p.returncode:
        return None, "exit %d: %s" % (p.returncode, (p.stderr.strip().splitlines() or ["nothing said"])[-1][-160:])
    lines = re.findall(r"buffer (\S+) weights (\d+) cache (\d+) compute (\d+)", p.stdout)
    return {name: tuple(int(n) for n in numbers) for name, *numbers in lines}, ""


def server(path, s):
    "the same from what a server in process prints, in bytes of hundredths of a MiB"
    slots = s["parallel"]
    keys = dict(n_ctx=s["ctx-size"], n_batch=s["batch-size"], n_ubatch=s["ubatch-size"], n_parallel=slots or -1, kv_unified=s["kv-unified"],
                cache_type_k="GGML_TYPE_" + s["cache-type-k"].upper(), cache_type_v="GGML_TYPE_" + s["cache-type-v"].upper(),
                flash_attn_type="LLAMA_FLASH_ATTN_TYPE_" + {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}[s["flash-attn"]],
                no_extra_bufts=s["no-repack"], warmup=False, verbosity=4, port=0)
    if not slots:
        keys.update(n_parallel=4, kv_unified=True)
    p = subprocess.Popen([sys.executable, "-c", SERVER, TARGET, path, json.dumps(keys)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace")
    try:
        log = p.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        log = p.communicate()[0]
    found = {}
    for name, what, mib in re.findall(r":\s+(\S+)\s+(model|KV|compute) buffer size =\s*([\d.]+) MiB", log):
        held = found.setdefault(name, [0, 0, 0])
        at = ["model", "KV", "compute"].index(what)
        held[at] = float(mib) * MiB + (held[at] if what == "KV" else 0)
    if not any(held[2] for held in found.values()):
        why = [l for l in log.splitlines() if "rror" in l or "fail" in l or "requires" in l] or log.splitlines()
        return None, why[-1][-160:]
    return {name: tuple(held) for name, held in found.items()}, ""


SPELT = {"ctx-size": "ctx", "batch-size": "batch", "ubatch-size": "ubatch", "flash-attn": "flash-attention", "n-gpu-layers": "ngl",
         "cache-type-k": "", "cache-type-v": ""}


def asked(path, s, build):
    command = [VLMEM, "estimate", "--model", path, "--engine", "llama-server", "--image", "none", "--device",
               "gpu" if WAY in ("cards", "vulkan") else "cpu", "--kv-type", s["cache-type-k"] + "," + s["cache-type-v"]] + flags(s, SPELT)
    if WAY != "server":
        command += ["--load-mode", "none"]
    if build:
        command += ["--build", build]
    if WAY == "vulkan":
        command += ["--backend", "vulkan"]
    if UNEVEN:
        command += ["--hardware", machine(path, s["free"])]
    elif CARDS > 1:
        command += ["--cards", str(CARDS)]
    return command


def machine(path, free):
    "a file of a machine with so much free on each of its cards, beside the model"
    path = os.path.splitext(path)[0] + ".yaml"
    with open(os.path.join(HERE, "../../../profiles/hardware/rtx-3090.yaml")) as text:
        card = text.read().split("gpus:\n")[1]
    with open(path, "w") as out:
        out.write("schema: vlmem/hardware/v1\nname: uneven\nmemory: {total_bytes: 64 GiB, source: {default: assumed}}\ngpus:\n")
        for n in free:
            out.write(card.replace("    sm_count", "    free_bytes: %d\n    sm_count" % n, 1))
    return path


def estimated(command):
    "{(item, place): bytes} or None and why not"
    p = subprocess.run(command + ["--format", "json"], capture_output=True, text=True)
    if p.returncode:
        return None, p.stderr.strip().splitlines()[0]
    sums = {}
    for i in json.loads(p.stdout)["items"]:
        key = i["name"], i["where"]
        sums[key] = sums.get(key, 0) + i["bytes"]
    return sums, ""


def seen(held):
    "buffers as vlmem's items: a CPU's own layouts apart, cards by number where there are several"
    sums = {}
    for name, numbers in held.items():
        card = re.fullmatch(r"(?:CUDA|Vulkan)(\d)", name)
        place = "host" if not card else "device" if CARDS == 1 else "device" + card[1]
        for item, n in zip(("weights", "KV cache", "compute"), numbers):
            if item == "weights" and re.match("AMX|CPU_REPACK", name):
                item = "repacked weights"
            sums[item, place] = sums.get((item, place), 0) + n
    return sums


def compare(truth, claim):
    "worst relative difference, and what differs"
    worst, words = 0.0, []
    items = ("weights", "repacked weights", "KV cache", "compute")
    rounding = {"server": 0.011 * MiB, "vulkan": 0.02 * MiB}.get(WAY, 0)
    for key in sorted(set(truth) | {k for k in claim if k[0] in items}):
        t, c = truth.get(key, 0), claim.get(key, 0)
        if abs(t - c) > rounding:
            worst = max(worst, abs(t - c) / max(t, c))
            words.append("%s %s %.2f, vlmem %.2f" % (key[1], key[0], t / MiB, c / MiB))
    return worst, words


class answers:
    "what the engine said, by the case, in the file that ANSWERS names: a run that was cut goes on, and another vlmem is asked at once"

    def __init__(self, build):
        self.path, self.kept = os.environ.get("ANSWERS", os.devnull), {}
        self.head = "%s %s %d " % (WAY, build or os.path.basename(TARGET), CARDS)
        for line in open(self.path) if os.path.exists(self.path) else ():
            key, held, why = json.loads(line)
            self.kept[key] = held and {name: tuple(numbers) for name, numbers in held.items()}, why

    def __enter__(self):
        self.file = open(self.path, "a", buffering=1)
        return self

    def __exit__(self, *_):
        self.file.close()

    def of(self, case, ask):
        key = self.head + case
        if key not in self.kept:
            self.kept[key] = held, why = ask()
            self.file.write(json.dumps([key, held, why]) + "\n")
        return self.kept[key]


def main():
    global VLMEM, WAY, TARGET, CARDS
    if len(sys.argv) < 6 or sys.argv[4] not in ("server", "reserve", "cards", "vulkan"):
        sys.exit(__doc__)
    seed, runs, WAY = int(sys.argv[1]), int(sys.argv[2]), sys.argv[4]
    VLMEM, TARGET = os.path.abspath(sys.argv[3]), os.path.abspath(sys.argv[5])
    CARDS = int(sys.argv[6]) if len(sys.argv) > 6 else 1
    build = ""
    if WAY == "server":
        info = next(m for m in (re.match(r"xllamacpp-([\d.]+)\.dist-info$", d) for d in os.listdir(TARGET)) if m)
        build = "b7079" if info[1] == "0.2.6" else "b" + info[1].split(".")[2]
    exact = near = refused = 0
    with tempfile.TemporaryDirectory() as folder, answers(build) as said:
        for n in range(runs):
            draw = random.Random("%d-%d" % (seed, n))  # each by itself, so that one can be repeated and a run goes on
            pick, chance = draw.choice, lambda share: draw.random() < share
            path = os.path.join(folder, "model.gguf")
            name, shape = model(pick, chance, path, False)
            s = settings(pick, chance, shape)
            held, why = said.of("%d-%d %s %s" % (seed, n, name, json.dumps(s)), lambda: (server if WAY == "server" else reserve)(path, s))
            command = asked(path, s, build)
            claim, message = estimated(command)
            if held is None or claim is None:
                both = held is None and claim is None
                refused += both
                if not both:
                    keep = os.path.join(tempfile.gettempdir(), "miss-%d-%d.gguf" % (seed, n))
                    os.replace(path, keep)
                    print(n, name, "engine:", why or "takes it", "| vlmem:", message or "takes it", "|",
                          " ".join(command).replace(path, keep), flush=True)
                continue
            worst, words = compare(seen(held), claim)
            exact += not words
            near += worst <= 0.01
            if words:
                keep = os.path.join(tempfile.gettempdir(), "miss-%d-%d.gguf" % (seed, n))
                os.replace(path, keep)
                print(n, name, "; ".join(words), "|", " ".join(command).replace(path, keep), flush=True)
    print("%d of %d to the byte, %d within 1 %%, %d refused by both" % (exact, runs, near, refused))
    sys.exit(exact + refused < 0.95 * runs or near + refused < runs)


if __name__ == "__main__":
    main()
