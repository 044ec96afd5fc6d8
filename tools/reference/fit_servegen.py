#!/usr/bin/env python3
"""Fit the servegen mix to ServeGen's published image workload (alibaba/ServeGen, Apache-2.0).

    python3 tools/reference/fit_servegen.py DATA > profiles/mix/servegen.yaml

DATA is the folder with the marginals (field,value,weight_expected_count) and the chunks of clients. A marginal becomes a
table of at most --knots quantiles: knots go where the distribution jumps (one value with over half a percent of all), and
then, one by one, where the line between knots is furthest from the distribution. The largest distance that remains is
printed beside each table. Arrivals are all clients together: the mean rate, and the variation of gaps when each client's
renewal process is drawn for an hour and merged.
"""

import argparse
import csv
import glob
import math
import os
import random


def marginals(path):
    fields = {}
    with open(path) as f:
        for row in csv.DictReader(f):
            fields.setdefault(row["field"], []).append((int(row["value"]), float(row["weight_expected_count"])))
    return {k: sorted((v, w) for v, w in rows if w > 0) for k, rows in fields.items()}


def cumulative(rows):
    total, below, out = sum(w for _, w in rows), 0.0, []
    for value, weight in rows:
        out.append((value, below / total, (below + weight) / total))
        below += weight
    return out


def quantile(knots, u):
    for a, b in zip(knots, knots[1:]):
        if u < b[0]:
            return a[1] + (b[1] - a[1]) * (u - a[0]) / (b[0] - a[0])
    return knots[-1][1]


def share_up_to(knots, x):
    """Share of the fitted distribution, rounded to whole counts, that is at most x."""
    for a, b in zip(knots, knots[1:]):
        if b[1] >= x + 0.5:
            if a[1] >= x + 0.5:
                return a[0]
            return a[0] + (b[0] - a[0]) * (x + 0.5 - a[1]) / (b[1] - a[1])
    return 1.0


def fit(rows, limit):
    steps = cumulative(rows)
    knots = {0.0: steps[0][0], 1.0: steps[-1][0]}
    for value, low, high in steps:
        if high - low > 0.005:  # both ends of a jump
            knots.setdefault(round(low, 5), value)
            knots[min(1.0, round(high - 1e-5, 5))] = value
    while True:
        table = sorted((p, v) for p, v in knots.items())
        table = [(p, max(v for q, v in table if q <= p)) for p, v in table]
        worst, at = 0.0, None
        for value, low, high in steps:
            distance = abs(share_up_to(table, value) - high)
            if distance > worst and round(high, 5) not in knots:
                worst, at = distance, (round(high, 5), value)
        if len(knots) >= limit or at is None or worst < 0.004:
            return table, worst
        knots[at[0]] = at[1]


def arrivals(folder):
    """Mean requests a second over the day, and the coefficient of variation of the merged gaps over one hour."""
    rng = random.Random(1)
    total, times = 0.0, []
    for path in sorted(glob.glob(os.path.join(folder, "chunk-*-trace.csv"))):
        with open(path) as f:
            rows = [r for r in csv.reader(f) if r]
        for start, rate, _cv, pattern, shape, scale in rows:
            start, rate = float(start), float(rate)
            if rate <= 0:
                continue
            total += rate * 600
            if not pattern or not 36000 <= start < 39600:
                continue
            shape, scale, clock = float(shape), float(scale), start
            mean = shape * scale if pattern == "Gamma" else scale * math.gamma(1 + 1 / shape)
            while clock < start + 600:
                gap = rng.gammavariate(shape, scale) if pattern == "Gamma" else rng.weibullvariate(scale, shape)
                clock += gap / (mean * rate)
                if clock < start + 600:
                    times.append(clock)
    times.sort()
    gaps = [b - a for a, b in zip(times, times[1:])]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((g - mean) ** 2 for g in gaps) / len(gaps))
    return total / 86400, deviation / mean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--knots", type=int, default=60)
    o = parser.parse_args()
    fields = marginals(os.path.join(o.data, "servegen_mm_image_marginals.csv"))
    rate, variation = arrivals(os.path.join(o.data, "servegen_mm_image"))
    print(f"""# The image workload of a production service of Qwen-VL models, as ServeGen published it: 24 hours, all clients together.
# Made by tools/reference/fit_servegen.py; the tables are quantiles, linear between.
schema: vlmem/mix/v1
name: servegen
arrivals: {{per_second: {rate:.2f}, coefficient_of_variation: {variation:.2f}}}""")
    for key, field in ("images", "image_count"), ("tokens", "image_tokens"), ("prompt", "text_tokens"), ("output", "output_tokens"):
        table, worst = fit(fields[field], o.knots)
        print(f"{key}: # {field}, within {worst:.4f} of the published distribution")
        print("  quantiles:")
        for i in range(0, len(table), 6):
            row = ", ".join(f"[{p:g}, {v}]" for p, v in table[i : i + 6])
            print(("    [" if i == 0 else "     ") + row + ("]" if i + 6 >= len(table) else ","))
    print("""service: {concurrency: 32, step_seconds: 0.03, prefill_per_s: 20000}
source:
  default: fitted to the image workload of alibaba/ServeGen (Apache-2.0)
  tokens: as the service counted them, 28x28 pixels each; taken over as counts
  service: assumed""")


if __name__ == "__main__":
    main()
