package tensor_test

import (
	"fmt"
	"log"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/tensor"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// A model's life with the optimizer: the context, tensors, an image batch, attention, pressure, cleanup.
func Example() {
	o, err := tensor.New(tensor.Options{Pools: map[string]alloc.Config{
		"general":         {Policy: "bestfit", Max: 256 << 20, Align: 64},
		"vision_features": {Policy: "bestfit", Max: 256 << 20, Align: 64},
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()

	features, err := o.Allocate([]int{1, 880, 2560}, profile.FP16, "vision_features")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("features ", units.Bytes(len(features.Bytes())), "in", features.Place, "memory")

	picture := tensor.Image{Width: 1280, Height: 704, Frames: [][]byte{make([]byte, 3*1280*704)}}
	tower := profile.Vision{InChannels: 3, PatchSize: 16, TemporalPatchSize: 2, SpatialMergeSize: 2}
	batch, err := o.ImageBatch([]tensor.Image{picture, picture}, tower, tensor.HalfNormalization())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("batch    ", batch.Pixels.Shape, "the second image", batch.Images[1].Pixels.Shape)

	layer, err := o.Attention(tensor.AttentionShape{Batch: 1, Tokens: 910, Heads: 32, KVHeads: 8, HeadDim: 128,
		DType: profile.FP16, Rows: 64})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("attention", units.Bytes(layer.Bytes), "in one block,", units.Bytes(layer.Separate), "apart")

	for _, err := range []error{o.Free(features), o.FreeImageBatch(batch), o.FreeAttention(layer)} {
		if err != nil {
			log.Fatal(err)
		}
	}
	state, err := o.Feed(pressure.Reading{Budgets: []pressure.Budget{{Name: "host", Used: 7 * units.GiB,
		Limit: 8 * units.GiB}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pressure ", state.Level, "-", state.Advice()[0])
	for _, s := range o.Stats() {
		fmt.Println(s.Kind, s.Requested, "bytes live,", s.Reserved, "reserved,", s.Allocs, "allocated")
	}
	// Output:
	// features  4.3 MiB in host memory
	// batch     [7040 1536] the second image [3520 1536]
	// attention 14.2 MiB in one block, 21.3 MiB apart
	// pressure  high - host: 7 GiB of 8 GiB in use (88 %): free 1 GiB to leave high pressure
	// general 0 bytes live, 0 reserved, 1 allocated
	// vision_features 0 bytes live, 0 reserved, 2 allocated
}
