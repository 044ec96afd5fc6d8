#!/usr/bin/env python3
"""context.py OUT.json [--device cuda|cpu]: what a process takes on a card before its first tensor, and what libraries add.

Bytes used on the card by this process (NVML) and by all (the driver) after each step: nothing, the context, the first
tensor, a cuBLAS product in three types, a convolution (cuDNN), attention by SDPA, a captured graph. Then nanoseconds of
an allocation and its free by PyTorch's caching allocator, and of clearing 2 MiB. On the CPU, resident bytes of the process.
"""
import argparse
import json
import os
import time

import torch


def by_nvml():
    import pynvml
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def used():
        mine = [p.usedGpuMemory for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if p.pid == os.getpid()]
        return {"process_bytes": mine[0] if mine else None, "device_bytes": pynvml.nvmlDeviceGetMemoryInfo(handle).used}

    return used


def resident():
    with open("/proc/self/statm") as f:
        return {"process_bytes": int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), "device_bytes": None}


def steps(device):
    yield "context", lambda: torch.cuda.init() or torch.cuda.synchronize() if device == "cuda" else None
    yield "first tensor", lambda: torch.zeros(1, device=device)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        yield f"product {dtype}".replace("torch.", ""), lambda: torch.ones(256, 256, device=device, dtype=dtype) @ torch.ones(
            256, 256, device=device, dtype=dtype)
    yield "convolution", lambda: torch.nn.functional.conv2d(torch.ones(1, 8, 64, 64, device=device), torch.ones(8, 8, 3, 3, device=device))
    half = torch.float16 if device == "cuda" else torch.float32
    yield "attention", lambda: torch.nn.functional.scaled_dot_product_attention(*[torch.ones(1, 8, 256, 128, device=device, dtype=half)] * 3)
    if device == "cuda":
        yield "graph", captured


def captured():
    x, graph = torch.ones(64, 64, device="cuda"), torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        x @ x
    graph.replay()


def nanoseconds(what, device):
    n = 2000 if device == "cuda" else 20

    def run():
        begun = time.perf_counter_ns()
        for _ in range(n):
            what()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter_ns() - begun) / n
    return sorted(run() for _ in range(7))[3]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    o = parser.parse_args()
    used = by_nvml() if o.device == "cuda" else resident
    seen = [dict(step="nothing", reserved_bytes=0, **used())]
    for name, what in steps(o.device):
        what()
        reserved = 0
        if o.device == "cuda":
            torch.cuda.synchronize()
            reserved = torch.cuda.memory_reserved()
        seen.append(dict(step=name, reserved_bytes=reserved, **used()))
    sizes = {}
    for size in (512, 1 << 16, 1 << 20, 20 << 20):
        sizes[size] = nanoseconds(lambda: torch.empty(size, dtype=torch.uint8, device=o.device), o.device)
    granule = torch.empty(2 << 20, dtype=torch.uint8, device=o.device)
    result = dict(torch=torch.__version__, device=o.device, memory=seen, allocate_and_free_ns=sizes,
                  clear_2mib_ns=nanoseconds(granule.zero_, o.device))
    if o.device == "cuda":
        result["card"] = torch.cuda.get_device_name()
    with open(o.out, "w") as f:
        json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
