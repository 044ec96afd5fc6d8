#!/usr/bin/env python3
"""slim.py IN.so ARCH OUT.so TOOLS: keep one architecture of a CUDA library's device code, as machine code.

A fat binary (section .nv_fatbin) is a row of containers: magic 0xBA55ED50, a version, the header's and the body's size,
then entries of kind (1 PTX, 2 machine code), header size, body size, at byte 16 the packed and at byte 56 the whole size of a
body that is packed, and at byte 28 the architecture. Where the architecture is there as PTX alone, ptxas of the folder TOOLS (PyPI's
nvidia-cuda-nvcc of the release that built the library) compiles it: a driver refuses PTX newer than itself, so that a library
built with CUDA 13.1 does not run on driver 580 unless it holds machine code for the card. Each container is written anew with
that one entry (TOOLS/fatbinary); addresses stay, and the file packs well. The layout was read off libraries that nvcc 12 and
13 wrote; it is documented nowhere. Needs the package zstandard; tens of processor minutes for a large library.
"""
import concurrent.futures
import os
import struct
import subprocess
import sys
import tempfile

MAGIC, PTX = 0xBA55ED50, 1


def section(data, wanted):
    table, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    for row in rows:
        start = rows[names][4] + row[0]
        if data[start:data.index(b"\0", start)] == wanted:
            return row[4], row[5]
    raise SystemExit(f"no section {wanted.decode()}")


def containers(data, at, size):
    """Where each container begins and ends."""
    end = at + size
    while at < end - 16:
        magic, _, header, body = struct.unpack_from("<IHHQ", data, at)
        if magic != MAGIC:
            at += 8
            continue
        yield at, at + header + body
        at += header + body


def entry(data, begin, end, arch):
    """The kind and the unpacked body of the architecture's entry."""
    import zstandard
    at = begin + struct.unpack_from("<H", data, begin + 6)[0]
    while at < end:
        kind, _, head, length, packed = struct.unpack_from("<HHIQI", data, at)
        if struct.unpack_from("<I", data, at + 28)[0] == arch:
            body = bytes(data[at + head:at + head + length])
            if packed:
                body = zstandard.ZstdDecompressor().decompress(body[:packed], struct.unpack_from("<Q", data, at + 56)[0])
            return kind, body
        at += head + length
    raise SystemExit(f"the container at {begin:#x} holds nothing for architecture {arch}")


def compiled(tools, arch, kind, body):
    """A container with the machine code alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        with open(path("code.ptx" if kind == PTX else "code.cubin"), "wb") as f:
            f.write(body.rstrip(b"\0") if kind == PTX else body)
        if kind == PTX:
            subprocess.run([os.path.join(tools, "ptxas"), f"-arch=sm_{arch}", path("code.ptx"), "-o", path("code.cubin")], check=True)
        subprocess.run([os.path.join(tools, "fatbinary"), "-64", "--create", path("code.fatbin"), "--compress-all",
                        f"--image3=kind=elf,sm={arch},file={path('code.cubin')}"], check=True)
        with open(path("code.fatbin"), "rb") as f:
            return f.read()


def main():
    source, arch, target, tools = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    data = bytearray(open(source, "rb").read())
    found = list(containers(data, *section(data, b".nv_fatbin")))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda c: compiled(tools, arch, *entry(data, *c, arch)), found)
        for (begin, end), code in zip(found, made):
            if len(code) > end - begin:
                raise SystemExit(f"the container at {begin:#x} has no room for {len(code)} bytes")
            data[begin:end] = code + bytes(end - begin - len(code))
    open(target, "wb").write(data)
    print(f"{len(found)} containers for architecture {arch}")


if __name__ == "__main__":
    main()
