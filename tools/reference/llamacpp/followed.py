#!/usr/bin/env python3
"""vlmem run on a real llama-server: what it predicts against what it sees, and what the runs teach.

    followed.py LLAMA-SERVER VLMEM Q8_0.gguf Q4_0.gguf

The files are write_random.py's, at real sizes. Three settings differ in context, type of the cache, repacking and weights; each server
answers a prompt that fills a batch and is ended with SIGTERM, which vlmem hands on. Exit 1 where anonymous memory, mapped memory or
the total is more than 3 % off, where the total's error after --learned is more than half of that before, or where an item that changed
is not marked observed.
"""
import json, os, signal, subprocess, sys, tempfile, threading, time, urllib.request

PORT = 18077
SETTINGS = [["-c", "4096"], ["-c", "16384", "-ctk", "q8_0", "-ctv", "q8_0", "--no-repack"], ["-c", "8192"]]
COMMON = ["-np", "1", "--cache-ram", "0", "-t", "2", "-lv", "4", "--host", "127.0.0.1", "--port", str(PORT)]
SPELT = {"-c": "--ctx", "-ctk": "--kv-type"}  # as estimate has them, which takes one type for both halves of the cache


def ask(tokens, answer):
    "waits for the server and has it answer"
    base = "http://127.0.0.1:%d" % PORT
    for _ in range(3000):
        try:
            if urllib.request.urlopen(base + "/health", timeout=5).status == 200:
                break
        except OSError:
            time.sleep(0.2)
    body = {"prompt": [300 + i % 1000 for i in range(tokens)], "n_predict": answer, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    request = urllib.request.Request(base + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=3000).read()


def serve(command, tokens=600, answer=3):
    "starts, asks, ends with SIGTERM"
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(p.stderr.read().decode(errors="replace").splitlines()))
    reader.start()
    ask(tokens, answer)
    p.send_signal(signal.SIGTERM)
    code = p.wait()
    reader.join()
    if code:
        sys.exit("%s: exit %d\n%s" % (" ".join(command), code, "\n".join(lines[-20:])))


def estimate(vlmem, model, settings, *more):
    command = [vlmem, "estimate", "--engine", "llama-server", "--model", model, "--image", "none", "--device", "cpu", "--parallel", "1",
               "--cache-ram", "0", "--hardware", HARDWARE, "--format", "json", *more]
    words = settings[:settings.index("-ctv")] + settings[settings.index("-ctv") + 2:] if "-ctv" in settings else settings
    command += [SPELT.get(word, word) for word in words]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def total(e):
    listed = {i["name"] for i in e["items"]}
    items = e["items"] + [i for i in e.get("own", []) if i["name"] not in listed and i["name"] != "file pages"]
    return sum(max(i["bytes"], i.get("mapped_bytes", 0)) for i in items)


def followed(server, vlmem, models, folder):
    worst, seen = 0, []
    for n, settings in enumerate(SETTINGS):
        args = ["-m", models[n > 1]] + settings
        serve([vlmem, "run", "--engine", "llama-server", "--keep", "--", server] + args + COMMON)
        kept = sorted(os.path.join(d, f) for d, _, fs in os.walk(folder) for f in fs if f.endswith(".json"))
        o = max((json.load(open(f)) for f in kept), key=lambda o: o["started"])
        print(os.path.basename(args[1]), " ".join(settings), flush=True)
        for i in o["items"]:
            if i.get("witness"):
                off = i["seen_bytes"] / i["predicted_bytes"] - 1
                print("  %-17s predicted %8.1f MiB, seen %8.1f (%+.2f %%) %s" % (
                    i["name"], i["predicted_bytes"] / 2**20, i["seen_bytes"] / 2**20, 100 * off, i["witness"]), flush=True)
                if i["name"] in ("anonymous", "mapped", "total"):
                    worst = max(worst, abs(off))
        seen.append(o["peak"]["resident_bytes"])
    return worst, seen


def learned(vlmem, models, seen):
    "the sums of the errors of the total, before and after"
    sums, marked = [0, 0], True
    for n, settings in enumerate(SETTINGS):
        pair = [estimate(vlmem, models[n > 1], settings), estimate(vlmem, models[n > 1], settings, "--learned")]
        was = {i["name"]: i["bytes"] for i in pair[0]["items"] + pair[0].get("own", [])}
        for i in pair[1]["items"]:
            marked &= i["bytes"] == was.get(i["name"]) or i["source"] == "observed"
        for k in (0, 1):
            sums[k] += abs(total(pair[k]) - seen[n])
        print("total seen %.1f MiB, estimated %.1f, after the runs %.1f" % (seen[n] / 2**20, total(pair[0]) / 2**20, total(pair[1]) / 2**20))
    return sums, marked


def main():
    global HARDWARE
    args = sys.argv[1:]
    if len(args) != 4:
        sys.exit(__doc__)
    server, vlmem, models = args[0], os.path.abspath(args[1]), args[2:]
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_DATA_HOME"] = folder
        HARDWARE = os.path.join(folder, "here.yaml")
        subprocess.run([vlmem, "probe", "--save", HARDWARE], check=True, capture_output=True)
        worst, seen = followed(server, vlmem, models, folder)
        (before, after), marked = learned(vlmem, models, seen)
        print("worst of anonymous, mapped and total: %.2f %%" % (100 * worst))
        print("errors of the totals: %.1f MiB, after the runs %.1f; each change marked: %s" % (before / 2**20, after / 2**20, marked))
        failed += ["3 %"] * (worst > 0.03) + ["learned"] * (after > before / 2) + ["mark"] * (not marked)
    sys.exit("missed: " + ", ".join(failed) if failed else 0)


if __name__ == "__main__":
    main()
