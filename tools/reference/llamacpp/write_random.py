#!/usr/bin/env python3
"""Write a GGUF of a Qwen3-VL decoder, or its mmproj, with random weights, which loads and computes like a real one.

    write_random.py CONFIG.json TYPE OUT.gguf [mmproj]

Arguments as for write_gguf.py and write_mmproj.py; TYPE is f32, f16, bf16, q8_0, q4_0, q4_k or, of a decoder, q4_k_m as
llama-quantize mixes it. The bytes are the same each time.
"""
import json, os, random, sys
import write_gguf, write_mmproj

CHUNK = 1 << 14  # blocks that repeat


def blocks(kind, draw):
    "random blocks of a type whose scales are small and finite"
    small = b"\x00\x18"  # 0.002 as f16
    if kind == "f32":  # norms and biases: near one
        return b"".join(bytes([draw.randrange(256), draw.randrange(256), 0x7f, 0x3f]) for _ in range(CHUNK))
    if kind in ("f16", "bf16"):
        top = 0x25 if kind == "f16" else 0x3c
        return b"".join(bytes([draw.randrange(256), top | draw.choice((0, 0x80))]) for _ in range(CHUNK))
    size = write_gguf.TYPES[kind][2]
    if kind == "q6_k":  # its scale comes last, those of 16 elements before it
        return b"".join(draw.randbytes(192) + b"\1" * 16 + small for _ in range(CHUNK))
    heads = {"q8_0": small, "q4_0": small, "q4_k": small + small}[kind]
    return b"".join(heads + draw.randbytes(size - len(heads)) for _ in range(CHUNK))


def mixed(config):
    "the decoder in q4_k_m: the head, and of some layers values and the last matrix, in q6_k (src/llama-quant.cpp of v0.5.0)"
    n = config["text_config"]["num_hidden_layers"]
    head = "token_embd.weight" if config["tie_word_embeddings"] else "output.weight"
    for name, shape, kind in write_gguf.tensors(config, "q4_k"):
        part = name.split(".")
        more = part[0] == "blk" and part[2] in ("attn_v", "ffn_down") and (
            int(part[1]) < n // 8 or int(part[1]) >= 7 * n // 8 or (int(part[1]) - n // 8) % 3 == 2)
        yield name, shape, "q6_k" if more or name == head else kind


def readable(pairs, config):
    "the pairs with a vocabulary that starts with the 256 bytes as GPT-2 spells them, so that any text has tokens"
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    tokens = [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]
    tokens += ["t%d" % i for i in range(len(tokens), config["text_config"]["vocab_size"])]
    name = write_gguf.string("tokenizer.ggml.tokens")
    return [write_gguf.array("tokenizer.ggml.tokens", write_gguf.STRING, tokens) if p.startswith(name) else p for p in pairs]


def fill(path, infos, length):
    "writes the tensor area, whose length in bytes write() returned"
    draw = random.Random(1)
    chunks = {kind: blocks(kind, draw) for kind in {k for _, _, k in infos}}
    with open(path, "r+b") as out:
        out.seek(os.path.getsize(path) - length)
        for _, shape, kind in infos:
            _, block, size = write_gguf.TYPES[kind]
            left = size * (shape[0] // block)
            for n in shape[1:]:
                left *= n
            end = out.tell() + -(-left // write_gguf.ALIGNMENT) * write_gguf.ALIGNMENT
            while left > 0:
                left -= out.write(chunks[kind][:left])
            out.seek(end)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or sys.argv[2] not in [*write_gguf.TYPES, "q4_k_m"]:
        sys.exit(__doc__)
    config, kind, path = json.load(open(sys.argv[1])), sys.argv[2], sys.argv[3]
    if sys.argv[4:] == ["mmproj"]:
        v = config["vision_config"]
        whole = lambda row, kind: row % write_gguf.TYPES[kind][1] == 0  # other rows stay f16, as its converter leaves them
        pairs, infos = write_mmproj.metadata(v), [(n, s, k if whole(s[0], k) else "f16") for n, s, k in write_mmproj.tensors(v, kind)]
    else:
        infos = list(mixed(config) if kind == "q4_k_m" else write_gguf.tensors(config, kind))
        pairs = readable(write_gguf.metadata(config), config)
    fill(path, infos, write_gguf.write(pairs, infos, path))
