#!/usr/bin/env python3
"""What following costs a llama-server while it writes: vlmem run is stopped and let go on by turns within one answer.

    stopped.py VLMEM LLAMA-SERVER MODEL.gguf [TOKENS [TURN]]

Every TURN tokens the follower changes between running and stopped (SIGSTOP, SIGCONT); each stretch is compared with the mean of its two
neighbours, so that what else the machine does, and the cache that grows, fall out. The server's processor time is the kernel's, to the
nanosecond (/proc/PID/task/*/schedstat). Printed are the medians of the difference in processor time and in wall time a token, with the
interval that holds each 19 times in 20 by ranks, and vlmem's own processor time in the stretches in which it ran.
"""
import json, math, os, signal, subprocess, sys, tempfile, time, urllib.request

from paired import median

PORT = 18078


def processor(pid):
    "nanoseconds of all threads"
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            total += int(open("/proc/%d/task/%s/schedstat" % (pid, task)).read().split()[0])
        except OSError:
            pass
    return total


def child(pid):
    for task in os.listdir("/proc/%d/task" % pid):
        found = open("/proc/%d/task/%s/children" % (pid, task)).read().split()
        if found:
            return int(found[0])


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    vlmem, server, model = sys.argv[1:4]
    tokens, turn = int((sys.argv[4:] + ["600"])[0]), int((sys.argv[5:] + ["6"])[0])
    p = subprocess.Popen([vlmem, "run", "--save", tempfile.mktemp(), "--", server, "-m", model, "-c", "2048", "-np", "1", "-t", "1",
                          "--cache-ram", "0", "--host", "127.0.0.1", "--port", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = "http://127.0.0.1:%d" % PORT
    for _ in range(600):
        try:
            if urllib.request.urlopen(base + "/health", timeout=5).status == 200:
                break
        except OSError:
            time.sleep(0.2)
    pid = child(p.pid)
    body = {"prompt": [300 + i for i in range(64)], "n_predict": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
    request = urllib.request.Request(base + "/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    marks, seen = [], 0
    with urllib.request.urlopen(request, timeout=3000) as answer:
        for line in answer:
            if not line.startswith(b"data:"):
                continue
            seen += 1
            if seen % turn == 0:
                marks.append((processor(pid), time.perf_counter(), processor(p.pid)))
                os.kill(p.pid, signal.SIGSTOP if len(marks) % 2 else signal.SIGCONT)
    os.kill(p.pid, signal.SIGCONT)
    p.send_signal(signal.SIGTERM)
    p.wait()
    parts = [[b[k] - a[k] for k in range(3)] for a, b in zip(marks, marks[1:])]
    rows = []
    for n in range(1, len(parts) - 1):
        followed = n % 2 == 1  # the first mark stops it
        for_cpu, for_wall = ((parts[n - 1][k] + parts[n + 1][k]) / 2 for k in (0, 1))
        sign = 1 if followed else -1
        rows.append((sign * math.log(parts[n][0] / for_cpu), sign * math.log(parts[n][1] / for_wall)))
    own = sum(x[2] for n, x in enumerate(parts) if n % 2 == 1) / sum(x[0] for n, x in enumerate(parts) if n % 2 == 1)
    print("%d stretches of %d tokens, %.0f ms of processor a token" % (len(parts), turn, sum(x[0] for x in parts) / len(parts) / turn / 1e6))
    for k, name in enumerate(("the server's processor time", "its wall time")):
        print("%s: %+.2f %%, %+.2f to %+.2f" % (name, *(100 * x for x in median([r[k] for r in rows]))))
    print("vlmem's own processor time while it ran: %.2f %% of the server's" % (100 * own))


if __name__ == "__main__":
    main()
