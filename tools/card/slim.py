#!/usr/bin/env python3
"""slim.py IN.so ARCH OUT.so: keep one architecture of a CUDA library's device code.

A fat binary (section .nv_fatbin) is a row of containers: magic 0xBA55ED50, a version, the header's and the body's size,
then entries of kind (1 PTX, 2 machine code), header size, body size and, at byte 28, the architecture. The bodies of other
architectures are overwritten with zeros and their architecture with one that no card has, so that addresses stay and the
file packs well. The layout was read off libraries that nvcc 12 and 13 wrote; it is documented nowhere.
"""
import struct
import sys

MAGIC, NO_CARD = 0xBA55ED50, 9999


def section(data, wanted):
    table, = struct.unpack_from("<Q", data, 0x28)
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    for row in rows:
        start = rows[names][4] + row[0]
        if data[start:data.index(b"\0", start)] == wanted:
            return row[4], row[5]
    raise SystemExit(f"no section {wanted.decode()}")


def entries(data, at, size):
    end = at + size
    while at < end - 16:
        magic, _, header, body = struct.unpack_from("<IHHQ", data, at)
        if magic != MAGIC:
            at += 8
            continue
        at += header
        stop = at + body
        while at < stop:
            _, _, head, length = struct.unpack_from("<HHIQ", data, at)
            yield at, head, length
            at += head + length
        at = stop


def main():
    source, arch, target = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    data = bytearray(open(source, "rb").read())
    kept = 0
    for at, head, length in list(entries(data, *section(data, b".nv_fatbin"))):
        if struct.unpack_from("<I", data, at + 28)[0] == arch:
            kept += 1
            continue
        data[at + head:at + head + length] = bytes(length)
        struct.pack_into("<I", data, at + 28, NO_CARD)
    if not kept:
        raise SystemExit(f"{source} holds nothing for architecture {arch}")
    open(target, "wb").write(data)
    print(f"{kept} entries for architecture {arch} kept")


if __name__ == "__main__":
    main()
