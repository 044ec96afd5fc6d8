#!/usr/bin/env python3
"""rates.py OUT.json [--device cuda|cpu]: transfers both ways, their overlap with computing, and attention's time.

Seconds of a copy by size, pinned and pageable, to the card and back; of a product alone, a copy alone and both on two
streams; and of scaled_dot_product_attention by backend for the shapes that `vlmem bench tiles --gpu` times, which compares.
"""
import argparse
import json
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

SHAPES = [(2040, 2040, 128), (1, 4096, 128), (1200, 1200, 64), (4096, 4096, 72)]  # queries, keys, head_dim
HEADS, KV_HEADS = 32, 8


def median(what, wait, n=9):
    what()
    wait()
    times = []
    for _ in range(n):
        begun = time.perf_counter()
        what()
        wait()
        times.append(time.perf_counter() - begun)
    return sorted(times)[n // 2]


def transfers(device, wait):
    rows = []
    for size in (4 << 10, 64 << 10, 1 << 20, 16 << 20, 256 << 20 if device == "cuda" else 32 << 20):
        there = torch.empty(size, dtype=torch.uint8, device=device)
        for pinned in (True, False) if device == "cuda" else (False,):
            here = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
            rows.append(dict(bytes=size, pinned=pinned, to_device_s=median(lambda: there.copy_(here, non_blocking=True), wait),
                             to_host_s=median(lambda: here.copy_(there, non_blocking=True), wait)))
    return rows


def overlap(wait):
    copying, here = torch.cuda.Stream(), torch.zeros(64 << 20, dtype=torch.uint8, pin_memory=True)
    there, a = torch.empty_like(here, device="cuda"), torch.ones(4096, 4096, device="cuda", dtype=torch.bfloat16)

    def copy():
        with torch.cuda.stream(copying):
            there.copy_(here, non_blocking=True)

    def compute():
        for _ in range(8):
            a @ a

    return dict(copy_s=median(copy, wait), compute_s=median(compute, wait), both_s=median(lambda: (copy(), compute()), wait))


def attention(device, wait):
    rows = []
    half, part = (torch.float16, 1) if device == "cuda" else (torch.float32, 16)
    for queries, keys, d in ((max(1, queries // part), keys // part, d) for queries, keys, d in SHAPES):
        q = torch.randn(1, HEADS, queries, d, device=device, dtype=half)
        k, v = (torch.randn(1, KV_HEADS, keys, d, device=device, dtype=half) for _ in range(2))
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH):
            row = dict(queries=queries, keys=keys, head_dim=d, backend=backend.name)
            try:
                with sdpa_kernel([backend]), torch.no_grad():
                    row["seconds"] = median(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True), wait)
            except RuntimeError as e:  # a backend that does not serve the shape
                row["refused"] = str(e).splitlines()[0][:200]
            rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    o = parser.parse_args()
    wait = torch.cuda.synchronize if o.device == "cuda" else lambda: None
    result = dict(torch=torch.__version__, device=o.device, transfers=transfers(o.device, wait), attention=attention(o.device, wait))
    if o.device == "cuda":
        result |= dict(card=torch.cuda.get_device_name(), overlap=overlap(wait))
    with open(o.out, "w") as f:
        json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
