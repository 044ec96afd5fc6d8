package optimizer_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"regexp"
	"strings"

	"github.com/vlmem/vlmem/optimizer"
)

// A model's life with a configuration of `vlmem advise --hardware i5-10210u --model qwen3-vl-4b`: tensors of all kinds,
// an image batch, attention, compaction, pressure, cleanup.
func Example() {
	file, err := os.Open("../cmd/vlmem/testdata/advise_i5-10210u_qwen3-vl-4b.yaml")
	check(err)
	defer file.Close()
	o, err := optimizer.Open(file)
	check(err)
	defer o.Close()

	features, err := o.Allocate([]int{1, 880, 2560}, optimizer.FP16, optimizer.VisionFeatures)
	check(err)
	fmt.Println("features ", len(features.Bytes()), "bytes in", features.Place, "memory")

	picture := optimizer.Image{Width: 1280, Height: 704, Frames: [][]byte{make([]byte, 3*1280*704)}}
	tower := optimizer.Vision{InChannels: 3, PatchSize: 16, TemporalPatchSize: 2, SpatialMergeSize: 2}
	batch, err := o.ImageBatch([]optimizer.Image{picture, picture}, tower, optimizer.HalfNormalization())
	check(err)
	fmt.Println("batch    ", batch.Pixels.Shape, "the second image", batch.Images[1].Pixels.Shape)

	layer, err := o.Attention(optimizer.AttentionShape{Batch: 1, Tokens: 910, Heads: 32, KVHeads: 8, HeadDim: 128,
		DType: optimizer.FP16, Rows: 64})
	check(err)
	fmt.Println("attention", layer.Bytes, "bytes in one block,", layer.Separate, "apart")
	check(errors.Join(o.Free(features), o.FreeImageBatch(batch), o.FreeAttention(layer)))

	var embeddings []*optimizer.Tensor // every other of these goes, which leaves the text pool in pieces
	for i := range 200 {
		t, err := o.Allocate([]int{64, 1024}, optimizer.FP16, optimizer.TextEmbeddings)
		check(err)
		check(t.Use(func(b []byte) error { b[0] = byte(i); return nil }))
		embeddings = append(embeddings, t)
	}
	for i := 0; i < len(embeddings); i += 2 {
		check(o.Free(embeddings[i]))
	}
	moves, err := o.Compact()
	check(err)
	for _, m := range moves {
		fmt.Printf("compacted %v: external fragmentation %.2f before, %.2f after, %d blocks moved\n", m.Kind, m.Before,
			m.After, m.Blocks)
	}
	state, err := o.Feed(optimizer.Reading{Budgets: []optimizer.Budget{{Name: "host", Used: 95, Limit: 100}}})
	check(err)
	fmt.Println("pressure ", state.Level)
	// Output:
	// features  4505600 bytes in pageable memory
	// batch     [7040 1536] the second image [3520 1536]
	// attention 14909440 bytes in one block, 22364160 apart
	// compacted text_embeddings: external fragmentation 0.99 before, 0.07 after, 92 blocks moved
	// pressure  high
}

// Ten thousand tensors in pools that begin with a MiB and grow by four: what stays is read back after a compaction.
func Example_compaction() {
	data, err := os.ReadFile("../cmd/vlmem/testdata/advise_i5-10210u_qwen3-vl-4b.yaml")
	check(err)
	text := string(data)
	for key, bytes := range map[string]string{"initial": "1048576", "grow": "4194304", "max": "268435456"} {
		text = regexp.MustCompile(key+`_bytes: \d+`).ReplaceAllString(text, key+"_bytes: "+bytes)
	}
	o, err := optimizer.Open(strings.NewReader(text))
	check(err)
	kinds := []optimizer.Kind{optimizer.General, optimizer.KVCache, optimizer.VisionFeatures, optimizer.TextEmbeddings}
	tensors := make([]*optimizer.Tensor, 10_000)
	for i := range tensors {
		if tensors[i], err = o.Allocate([]int{2, 1024 + i%512}, optimizer.FP32, kinds[i%4]); err != nil {
			log.Fatal(err)
		}
		_ = tensors[i].Use(func(b []byte) error { binary.LittleEndian.PutUint64(b, uint64(i)); return nil })
	}
	spaces := 0
	for _, s := range o.Statistics() {
		spaces = max(spaces, s.Spaces)
	}
	fmt.Println("more than ten spaces:", spaces > 10)
	free := func(odd int) {
		for i := range tensors {
			if i/4%2 != odd {
				continue
			}
			err := tensors[i].Use(func(b []byte) error {
				if n := binary.LittleEndian.Uint64(b); n != uint64(i) {
					return fmt.Errorf("tensor %d holds the contents of %d", i, n)
				}
				return nil
			})
			check(errors.Join(err, o.Free(tensors[i])))
		}
	}
	free(0)
	moves, err := o.Compact()
	check(err)
	for _, m := range moves {
		fmt.Printf("%v: external fragmentation %.2f before, %.2f after\n", m.Kind, m.Before, m.After)
	}
	free(1)
	live := int64(0)
	for _, s := range o.Statistics() {
		live += s.Requested
	}
	fmt.Println("live in the end:", live, o.Close())
	// Output:
	// more than ten spaces: true
	// text_embeddings: external fragmentation 0.99 before, 0.07 after
	// live in the end: 0 <nil>
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
