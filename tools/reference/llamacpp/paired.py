#!/usr/bin/env python3
"""What following costs the program that is followed: the same command by turns under vlmem run and alone.

    paired.py VLMEM PAIRS COMMAND...

Prints for each pair how many percent more wall time, and processor time of the program itself, the followed one took, and the processor
time of vlmem as a share of the wall time; then the medians. Exit 1 where the median of the program's wall or processor time is 1 % up or
more. On a machine that does other work the pairs differ by more than that: give it to this alone.
"""
import json, os, resource, subprocess, sys, tempfile, time


def measured(command, into):
    "runs the command and writes seconds, processor seconds and page faults to a file"
    begun = time.perf_counter()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    json.dump([time.perf_counter() - begun, r.ru_utime + r.ru_stime, r.ru_minflt], open(into, "w"))
    sys.exit(code)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    if sys.argv[1] == "--measure":
        return measured(sys.argv[3:], sys.argv[2])
    vlmem, pairs, command, rows = sys.argv[1], int(sys.argv[2]), sys.argv[3:], []
    with tempfile.TemporaryDirectory() as folder:
        into, save = os.path.join(folder, "m"), os.path.join(folder, "o.json")
        inner = [sys.executable, os.path.abspath(__file__), "--measure", into] + command
        for n in range(pairs):
            both = {}
            for followed in (n % 2, 1 - n % 2):
                subprocess.run([vlmem, "run", "--save", save, "--"] * followed + inner, check=True, stderr=subprocess.DEVNULL)
                both[followed] = json.load(open(into))
            o = json.load(open(save))
            rows.append([both[1][k] / both[0][k] - 1 for k in (0, 1)] + [o["own_processor_ns"] / 1e9 / o["seconds"]])
            print("pair %d: %.1f s, wall %+.2f %%, processor %+.2f %%, vlmem %.2f %%" % (n, both[0][0], *(100 * x for x in rows[-1])), flush=True)
    wall, processor, own = (sorted(r[k] for r in rows)[len(rows) // 2] for k in (0, 1, 2))
    print("medians of %d pairs: wall %+.2f %%, processor %+.2f %%, vlmem itself %.2f %%" % (pairs, 100 * wall, 100 * processor, 100 * own))
    sys.exit(max(wall, processor) >= 0.01)


if __name__ == "__main__":
    main()
