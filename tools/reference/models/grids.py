#!/usr/bin/env python3
"""Records how many patches the processors of transformers make of images and videos: grids.py OUT.

One line a case: processor, frames (0: an image), width, height, patches (-1: refused). The limits are those of the
published checkpoints. Sizes are random, with sides below a token's and frame counts that are odd among them.
"""
import random, sys
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

PROCESSORS = {
    "qwen3_vl": (Qwen2VLImageProcessor(size=dict(shortest_edge=65536, longest_edge=16777216), patch_size=16),
                 Qwen3VLVideoProcessor(size=dict(shortest_edge=4096, longest_edge=25165824))),
    "qwen2_5_vl": (Qwen2VLImageProcessor(size=dict(shortest_edge=3136, longest_edge=12845056)),
                   Qwen2VLVideoProcessor(size=dict(shortest_edge=100352, longest_edge=602112))),
}


def patches(image, video, frames, width, height):
    try:
        if frames == 0:
            return image.get_number_of_image_patches(height, width, {})
        return video.get_num_of_video_patches(frames, height, width, {})
    except ValueError:
        return -1


def cases(r):
    yield from ((5, 1920, 2200), (9, 1664, 1696), (13, 1376, 1408), (5, 2200, 2300), (97, 905, 16), (4, 20, 4000),
                (1, 640, 480), (0, 10, 3000), (0, 1280, 720), (0, 20, 20), (0, 9000, 7000))
    for i in range(120):
        side = lambda: int(2 ** r.uniform(4, 12.3))
        yield (0 if i % 2 else r.randint(1, 200), side(), side())


def main(path):
    with open(path, "w") as f:
        for name, (image, video) in PROCESSORS.items():
            for frames, width, height in cases(random.Random(7)):
                f.write("%s,%d,%d,%d,%d\n" % (name, frames, width, height, patches(image, video, frames, width, height)))


if len(sys.argv) != 2:
    sys.exit(__doc__)
main(sys.argv[1])
