#!/usr/bin/env python3
"""What following costs the program that is followed: the same command by turns under vlmem run and alone.

    paired.py VLMEM PAIRS COMMAND...

Processor time, user and system, is the kernel's account of each process: of the program by itself (the difference within a pair), and of
vlmem by itself. It moves far less than the clock on a machine that does other work. Printed are each pair, then for the program's processor
time, its wall time and vlmem's share of the program's processor time the median with the interval that holds it 19 times in 20, from the
ranks of the pairs alone. What following costs is the program's difference and vlmem's share together. Exit 1 where its median is 1 % or more,
4 where the interval of the program's difference is wider than 2 %: too noisy to say.
"""
import json, math, os, resource, subprocess, sys, tempfile, time


def measured(command, into):
    "runs the command and writes seconds, processor seconds and page faults to a file"
    begun = time.perf_counter()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    json.dump([time.perf_counter() - begun, r.ru_utime + r.ru_stime, r.ru_minflt], open(into, "w"))
    sys.exit(code)


def median(values):
    "the median and the ranks that hold it 19 times in 20: each value lies above it as often as a coin falls"
    all, n = sorted(values), len(values)
    rank = 0
    while sum(math.comb(n, k) for k in range(rank + 1)) / 2 ** n <= 0.025:
        rank += 1
    rank = max(rank - 1, 0)
    return (all[(n - 1) // 2] + all[n // 2]) / 2, all[rank], all[n - 1 - rank]


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    if sys.argv[1] == "--measure":
        return measured(sys.argv[3:], sys.argv[2])
    vlmem, pairs, command, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3:], []
    with tempfile.TemporaryDirectory() as folder:
        into, save = os.path.join(folder, "m"), os.path.join(folder, "o.json")
        inner = [sys.executable, os.path.abspath(__file__), "--measure", into] + command
        for n in range(pairs + 1):
            both = {}
            for followed in (n % 2, 1 - n % 2):
                subprocess.run([vlmem, "run", "--save", save, "--"] * followed + inner, check=True, stderr=subprocess.DEVNULL)
                both[followed] = json.load(open(into))
            if n == 0:
                continue  # it read the files into memory
            own = json.load(open(save))["own_processor_ns"] / 1e9
            rows.append([both[1][1] / both[0][1] - 1, both[1][0] / both[0][0] - 1, own / both[1][1]])
            print("pair %d: %.1f s of processor in %.1f s: processor %+.2f %%, wall %+.2f %%, vlmem %.2f %%" %
                  (n, both[0][1], both[0][0], *(100 * x for x in rows[-1])), flush=True)
    for k, name in enumerate(("the program's processor time", "its wall time", "vlmem's processor time")):
        print("%s: median %+.2f %%, %+.2f to %+.2f" % (name, *(100 * x for x in median([r[k] for r in rows]))))
    cost = median([r[0] + r[2] for r in rows])
    print("both together, of %d pairs: median %+.2f %%, %+.2f to %+.2f" % (pairs, *(100 * x for x in cost)))
    sys.exit(1 if cost[0] >= 0.01 else 4 if cost[2] - cost[1] > 0.02 else 0)


if __name__ == "__main__":
    main()
