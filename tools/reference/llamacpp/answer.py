#!/usr/bin/env python3
"""Load what llama-server.args says with the server's own code, in a control group of a given size, and let it answer.

    answer.py PACKAGE llama-server.args MODEL.gguf [MMPROJ.gguf] [--limit MIB]

PACKAGE is a folder into which PyPI's xllamacpp was installed; its CPU build has AVX2 and nothing above, as a laptop has. The files
may be write_random.py's. Prints what the process held, by /proc and by the group, before and after a prompt of 600 tokens, 8
tokens of answer and, with a tower, an image of 1280x720. The group is made by hand under cgroup v1 or v2, for which one must be root. Exit 1
where it ends otherwise than by itself.
"""
import base64, os, struct, subprocess, sys, time, zlib

SPELT = {"ctx-size": ("n_ctx", int), "parallel": ("n_parallel", int), "ubatch-size": ("n_ubatch", int), "batch-size": ("n_batch", int),
         "n-gpu-layers": ("n_gpu_layers", int), "image-max-tokens": ("image_max_tokens", int), "cache-ram": ("cache_ram_mib", int),
         "no-warmup": ("warmup", lambda _: False), "fit": ("fit_params", lambda v: v == "on"),
         "no-repack": ("no_extra_bufts", lambda _: True)}


def arguments(path):
    words = [l for l in open(path).read().splitlines() if l and not l.startswith("#")]
    out = {}
    for line in words:
        name, _, value = line.removeprefix("--").partition(" ")
        out[name] = value
    return out


def held():
    found = {l.split(":")[0]: int(l.split()[1]) // 1024 for l in open("/proc/self/status") if l.startswith(("VmRSS", "Rss", "VmHWM"))}
    return " ".join("%s %d MiB" % i for i in found.items())


def png(width, height):
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(3 * width)) for y in range(height))
    part = lambda name, data: struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return (b"\x89PNG\r\n\x1a\n" + part(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + part(b"IDAT", zlib.compress(rows))
            + part(b"IEND", b""))


def serve(package, path, model, projector):
    sys.path.insert(0, package)
    import xllamacpp as x
    p, a = x.CommonParams(), arguments(path)
    p.model.path, p.port, p.verbosity = model, 0, 4
    if projector:
        p.mmproj.path = projector
    for name, value in a.items():
        if name in SPELT:
            key, make = SPELT[name]
            setattr(p, key, make(value))
    p.cpuparams.n_threads = int(a.get("threads", 2))
    for key in ("cache-type-k", "cache-type-v"):
        if key in a:
            setattr(p, key.replace("-", "_"), getattr(x.ggml_type, "GGML_TYPE_" + a[key].upper()))
    if a.get("flash-attn") in ("on", "off"):
        p.flash_attn_type = getattr(x.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_" + {"on": "ENABLED", "off": "DISABLED"}[a["flash-attn"]])
    if "load-mode" in a:
        p.load_mode = getattr(x.llama_load_mode, "LLAMA_LOAD_MODE_" + a["load-mode"].upper())
    s = x.Server(p)
    print("loaded", held(), flush=True)
    start = time.time()
    said = s.handle_completions({"prompt": "ab c" * 150, "n_predict": 8, "temperature": 0, "ignore_eos": True})
    print("answered after %.1f s:" % (time.time() - start), held(), str(said)[:160], flush=True)
    if projector:
        url = "data:image/png;base64," + base64.b64encode(png(1280, 720)).decode()
        said = s.handle_chat_completions({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                                                                 {"type": "text", "text": "t1"}]}], "max_tokens": 4})
        print("with an image:", held(), str(said)[:160], flush=True)
    os._exit(0)


def group(mib):
    "a control group of that size, and the files of its limit's peak"
    v1 = "/sys/fs/cgroup/memory"
    if os.path.isdir(v1):
        path, limit, peak = v1 + "/answer", "memory.limit_in_bytes", "memory.max_usage_in_bytes"
    else:
        path, limit, peak = "/sys/fs/cgroup/answer", "memory.max", "memory.peak"
    os.makedirs(path, exist_ok=True)
    open(os.path.join(path, limit), "w").write(str(mib << 20))
    return path, os.path.join(path, peak)


def main():
    args, limit = sys.argv[1:], 8192
    if "--limit" in args:
        at = args.index("--limit")
        limit = int(args[at + 1])
        del args[at:at + 2]
    if len(args) not in (3, 4):
        sys.exit(__doc__)
    if os.environ.get("ANSWER_CHILD"):
        return serve(*args, *[""] * (4 - len(args)))
    path, peak = group(limit)
    enter = lambda: open(path + "/cgroup.procs", "w").write(str(os.getpid()))
    p = subprocess.run([sys.executable, os.path.abspath(__file__)] + args, env=dict(os.environ, ANSWER_CHILD="1"), preexec_fn=enter)
    print("exit", p.returncode, "in a group of %d MiB, of which it used %d" % (limit, int(open(peak).read()) >> 20))
    os.rmdir(path)
    sys.exit(p.returncode != 0)


if __name__ == "__main__":
    main()
