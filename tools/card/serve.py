#!/usr/bin/env python3
"""serve.py OUT.json --server LLAMA-SERVER --vlmem VLMEM --scratch FOLDER [--quick] [--seconds N]: the real llama-server under `vlmem run`.

Random weights of real sizes. `vlmem run` predicts each setting from the command and the files, follows the process and its
memory on the card; the server answers a prompt, then images of three sizes, of which its log tells the time to encode.
OUT.json has for each setting the arguments, what was predicted and seen (vlmem's observation) and the server's log. With
--quick a model of two layers is served by the CPU.
"""
import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA = os.path.join(HERE, "..", "reference", "llamacpp")
sys.path.insert(0, LLAMA)
import answer  # noqa: E402

PORT = 18079
SETTINGS = [("qwen3-vl-2b", ["-c", "8192"]), ("qwen3-vl-4b", ["-c", "16384", "-ub", "1024"]),
            ("qwen3-vl-2b", ["-c", "16384", "-ngl", "14", "-ctk", "q8_0", "-ctv", "q8_0"])]
SIDES = [512, 1024, 1536]


def post(path, body):
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (PORT, path), json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


def ready(p, end):
    while p.poll() is None and time.monotonic() < end:
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/health" % PORT, timeout=5).status == 200
        except OSError:
            time.sleep(0.1)
    return False


def ask(tokens, sides):
    post("/completion", dict(prompt=[300 + i % 1000 for i in range(tokens)], n_predict=32, temperature=0, ignore_eos=True, cache_prompt=False))
    for side in sides:
        url = "data:image/png;base64," + base64.b64encode(answer.png(side, side)).decode()
        for text in ("a", "b"):  # the first of a size reserves, so that the second is the one to time
            content = [dict(type="image_url", image_url=dict(url=url)), dict(type="text", text=text)]
            post("/v1/chat/completions", dict(messages=[dict(role="user", content=content)], max_tokens=4, cache_prompt=False))


def served(o, model, projector, settings, end):
    kept = os.path.join(o.scratch, "observed.json")
    command = [o.vlmem, "run", "--engine", "llama-server", "--save", kept, "--", o.server, "-m", model, "--mmproj", projector, "-np", "1",
               "-lv", "4", "--host", "127.0.0.1", "--port", str(PORT)] + settings
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(p.stderr.read().decode(errors="replace").splitlines()))
    reader.start()
    said = "did not become ready"
    try:
        if ready(p, end):
            ask(40 if o.quick else 600, SIDES[:1] if o.quick else SIDES)
            said = ""
    except OSError as e:
        said = str(e)
    finally:
        p.send_signal(signal.SIGTERM)
        try:
            p.wait(20)
        except subprocess.TimeoutExpired:
            p.kill()
    reader.join()
    seen = json.load(open(kept)) if os.path.exists(kept) else None
    return dict(settings=settings, error=said, exit=p.returncode, observed=seen, log=lines)


def files(o, name):
    config = os.path.join(HERE, "models", name + ".json")
    model, projector = (os.path.join(o.scratch, "%s-%s.gguf" % (name, part)) for part in ("q8_0", "mmproj"))
    if not os.path.exists(model):
        subprocess.run([sys.executable, os.path.join(LLAMA, "write_random.py"), config, "q8_0", model], check=True)
        subprocess.run([sys.executable, os.path.join(LLAMA, "write_random.py"), config, "f16", projector, "mmproj"], check=True)
    return model, projector


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name in ("server", "vlmem", "scratch"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    o = parser.parse_args()
    end, runs = time.monotonic() + o.seconds, []
    for name, settings in [("tiny", ["-c", "1024", "-t", "2"])] if o.quick else SETTINGS:
        if time.monotonic() < end:
            runs.append(dict(model=name, **served(o, *files(o, name), settings, end)))
            with open(o.out, "w") as f:
                json.dump(runs, f, indent=1)
    print(*[r["error"] or "served" for r in runs], sep="\n")
    return 1 if any(r["error"] for r in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
