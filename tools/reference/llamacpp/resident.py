#!/usr/bin/env python3
"""The resident set of a real llama.cpp against the sum of what vlmem calls anonymous, mapped and repacked.

    resident.py SERVE VLMEM MODEL.gguf...

SERVE is serve.cpp over a released library, with GGML_BACKENDS at a folder that holds one CPU backend (libggml-cpu-haswell.so, whose
copies vlmem is asked for). Each file, such as write_random.py's, is loaded with mmap and without, with repacking and without, and
computes a prompt that fills a batch, so that all its buffers are touched. Exit 1 where a peak is more than 2 % off.
"""
import json, os, re, subprocess, sys, time

SETTINGS = [["-c", "4096", "-ctk", "f16"], ["-c", "16384", "-ctk", "q8_0", "--no-mmap"], ["-c", "8192", "-ctk", "f16", "--no-repack"]]
SPELT = {"-c": "--ctx", "-ctk": "--kv-type"}


def peak(command):
    "the highest resident set in bytes, 50 times a second"
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while p.poll() is None:
        try:
            most = max(most, int(re.search(r"VmRSS:\s+(\d+)", open("/proc/%d/status" % p.pid).read())[1]))
        except (OSError, TypeError):
            pass
        time.sleep(0.02)
    if p.returncode:
        sys.exit("%s: exit %d" % (" ".join(command), p.returncode))
    return most << 10


def predicted(vlmem, model, settings):
    command = [vlmem, "estimate", "--model", model, "--engine", "llama.cpp", "--image", "none", "--device", "cpu", "--hardware",
               "i5-10210u", "--outputs", "1", "--build", "v0.5.0", "--format", "json"]
    for word in settings:
        command.append(SPELT.get(word, word))
    e = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return sum(max(i["bytes"], i.get("mapped_bytes", 0)) for i in e["items"] + e["own"] if i["name"] != "file pages")


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    serve, vlmem, worst = sys.argv[1], sys.argv[2], 0.0
    for model in sys.argv[3:]:
        for settings in SETTINGS:
            seen = peak([serve, "-m", model] + settings + ["--prompt", "520", "--decode", "2"])
            claim = predicted(vlmem, model, settings)
            worst = max(worst, abs(seen / claim - 1))
            print(os.path.basename(model), " ".join(settings), "resident %.1f MiB, vlmem %.1f (%+.2f %%)" %
                  (seen / 2**20, claim / 2**20, 100 * (seen / claim - 1)), flush=True)
    print("worst %.2f %%" % (100 * worst))
    sys.exit(worst > 0.02)


if __name__ == "__main__":
    main()
