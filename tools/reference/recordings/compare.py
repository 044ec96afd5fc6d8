"""Compares vlmem explain with torch.cuda._memory_viz and with an undo of its own: compare.py VLMEM RECORDING..."""
import collections
import json
import pickle
import re
import subprocess
import sys

import torch.cuda._memory_viz as viz

viz.Bytes = int  # whole numbers instead of MiB


def stats(snapshot):
    """The sums that `python -m torch.cuda._memory_viz stats` prints, in bytes."""
    text = viz.segsum(snapshot)
    sums = {key: int(re.search(rf"^{key}: (\d+)", text, re.M)[1]) for key in ("total_reserved", "total_allocated")}
    return sums["total_reserved"], sums["total_allocated"]


def peak(snapshot, device):
    """The most bytes in use, found by undoing the entries from the end."""
    live = {}
    for s in snapshot["segments"]:
        at = s["address"]
        for b in s["blocks"]:  # releases before 2.1 leave their addresses out
            if s["device"] == device and b["state"] != "inactive":
                live[at] = viz._block_extra(b)[1]
            at += b["size"]
    entries = snapshot["device_traces"][device]
    release = "free_completed" if any(e["action"] == "free_completed" for e in entries) else "free_requested"
    now = best = sum(live.values())
    for e in reversed(entries):
        if e["action"] == "alloc":
            now -= live.pop(e["addr"], 0)
        elif e["action"] == release:
            now += e["size"] - live.get(e["addr"], 0)
            live[e["addr"]] = e["size"]
        best = max(best, now)
    return best


def explain(vlmem, path, *flags):
    done = subprocess.run([vlmem, "explain", path, *flags], capture_output=True, text=True, check=True)
    return done.stdout


def check(vlmem, path):
    with open(path, "rb") as f:
        snapshot = pickle.load(f)  # a file whose SHA-256 is known
    if isinstance(snapshot, list):
        snapshot = {"segments": snapshot, "device_traces": []}
    told = json.loads(explain(vlmem, path, "--format", "json", "--by", "stack"))
    reserved, allocated = stats(snapshot)
    wrong = []
    if sum(d["reserved_bytes"] for d in told["devices"]) != reserved:
        wrong.append(f"reserved, torch {reserved}")
    if sum(d["live_bytes"] for d in told["devices"]) != allocated:
        wrong.append(f"live, torch {allocated}")
    for d in told["devices"]:
        parts = sum(d[k + "_bytes"] for k in ("live", "rounding", "cached", "stranded"))
        if parts != d["reserved_bytes"]:
            wrong.append(f"{d['name']}: the parts sum to {parts}")
        if d["has_history"] and d["peak_live_bytes"] != peak(snapshot, d["device"]):
            wrong.append(f"{d['name']}: peak {d['peak_live_bytes']}, undone {peak(snapshot, d['device'])}")
    folded = sum(int(line.rsplit(" ", 1)[1]) for line in explain(vlmem, path, "--format", "folded").splitlines())
    live = sum(d["peak_live_bytes"] if d["has_history"] else d["live_bytes"] for d in told["devices"])
    if folded != live:
        wrong.append(f"the flame graph's sum is {folded}, of {live} that live")
    return told["has_history"], wrong


def main():
    count = collections.Counter()
    for path in sys.argv[2:]:
        history, wrong = check(sys.argv[1], path)
        count["with history" if history else "without"] += 1
        count["wrong"] += bool(wrong)
        for line in wrong:
            print(f"{path}: {line}")
    print(f"{count['with history']} recordings with history and {count['without']} without, {count['wrong']} differ")
    sys.exit(1 if count["wrong"] else 0)


main()
