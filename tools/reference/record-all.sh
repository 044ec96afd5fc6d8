#!/bin/sh
# Makes every recording under internal/workload/testdata again; PYTHON needs torch and transformers. Run from the root.
# About 15 minutes on two cores and 12 GiB of memory.
set -e
out=${1:-internal/workload/testdata}
record() { "${PYTHON:-python3}" tools/reference/record.py "$@"; }
for model in 2b 4b; do
	for image in 640x480 1024x1024 1280x704 1920x1088; do
		record --model $model --image $image -o "$out/$model-$image-fp32.txt.gz"
	done
done
record --model 2b --image 640x480 --layers 28 --depth 24 --deepstack 5,11,17 -o "$out/2b-640x480-fp32-full.txt.gz"
record --model 4b --image 640x480 --dtype bf16 --layers 36 --depth 24 --deepstack 5,11,17 -o "$out/4b-640x480-bf16-full.txt.gz"
record --model 2b --image 640x480 --dtype fp16 -o "$out/2b-640x480-fp16.txt.gz"
record --model 2b --image 1024x1024 --attention eager -o "$out/2b-1024x1024-fp32-eager.txt.gz"
record --model 4b --image 640x480 --attention math -o "$out/4b-640x480-fp32-math.txt.gz"
record --model 4b --image 640x480 --attention math --dtype bf16 -o "$out/4b-640x480-bf16-math.txt.gz"
record --model 4b --image 640x480 --cache static -o "$out/4b-640x480-fp32-static.txt.gz"
record --model 2b --image 640x480 --batch 2 -o "$out/2b-640x480-fp32-batch.txt.gz"
record --model 2b --image 512x512 --images 3 --batch 2 -o "$out/2b-512x512-fp32-images.txt.gz"
record --model 4b --image 896x1536 --images 2 --dtype bf16 --steps 20 -o "$out/4b-896x1536-bf16-images.txt.gz"
record --model 2b --image 320x256 --frames 8 -o "$out/2b-320x256-fp32-video.txt.gz"
record --model 2b --image 640x480 --threads 2 -o "$out/2b-640x480-fp32-threads.txt.gz"
record --model 30b-a3b --image 640x480 -o "$out/30b-a3b-640x480-fp32.txt.gz"
record --model 30b-a3b --image 640x480 --dtype bf16 -o "$out/30b-a3b-640x480-bf16.txt.gz"
