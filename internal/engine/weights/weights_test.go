package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	parser "github.com/gpustack/gguf-parser-go"

	"github.com/vlmem/vlmem/internal/profile"
)

// writer builds small GGUF files.
type writer struct{ bytes.Buffer }

func (w *writer) put(values ...any) *writer {
	for _, v := range values {
		if s, ok := v.(string); ok {
			_ = binary.Write(w, binary.LittleEndian, uint64(len(s)))
			w.WriteString(s)
		} else {
			_ = binary.Write(w, binary.LittleEndian, v)
		}
	}
	return w
}

// small is a whole qwen3vl header with one layer.
func small() []byte {
	w := &writer{}
	w.WriteString("GGUF")
	numbers := []struct {
		key   string
		value uint32
	}{
		{"embedding_length", 256}, {"block_count", 1}, {"attention.head_count", 4}, {"attention.head_count_kv", 2},
		{"attention.key_length", 64}, {"context_length", 4096}, {"feed_forward_length", 512}, {"n_deepstack_layers", 3},
	}
	w.put(uint32(3), uint64(4), uint64(len(numbers)+3))
	w.put("general.architecture", uint32(ggufString), "qwen3vl")
	w.put("tokenizer.ggml.tokens", uint32(ggufArray), uint32(ggufString), uint64(2), "a", "bc")
	w.put("flags", uint32(ggufArray), uint32(ggufBool), uint64(3), []uint8{0, 1, 1})
	for _, n := range numbers {
		w.put("qwen3vl."+n.key, uint32(4), n.value)
	}
	offset := uint64(0)
	for _, t := range []struct {
		name  string
		kind  uint32
		shape []uint64
	}{
		{"token_embd.weight", 8, []uint64{256, 512}}, {"output_norm.weight", 0, []uint64{256}},
		{"blk.0.attn_q.weight", 12, []uint64{256, 256}}, {"blk.0.ffn_gate_exps.weight", 30, []uint64{256, 64, 2}},
	} {
		w.put(t.name, uint32(len(t.shape)), t.shape, t.kind, offset)
		offset += 1 << 20
	}
	w.Write(make([]byte, 64))
	return w.Bytes()
}

func TestReadGGUF(t *testing.T) {
	g, err := ReadGGUF(bytes.NewReader(small()))
	if err != nil {
		t.Fatal(err)
	}
	want := []Tensor{
		{Name: "token_embd.weight", Type: "q8_0", Shape: []int64{256, 512}, Bytes: 256 * 512 / 32 * 34},
		{Name: "output_norm.weight", Type: "f32", Shape: []int64{256}, Bytes: 1024, At: 1 << 20},
		{Name: "blk.0.attn_q.weight", Type: "q4_k", Shape: []int64{256, 256}, Bytes: 256 * 144, At: 2 << 20},
		{Name: "blk.0.ffn_gate_exps.weight", Type: "bf16", Shape: []int64{256, 64, 2}, Bytes: 256 * 64 * 2 * 2, At: 3 << 20},
	}
	if !reflect.DeepEqual(g.Tensors, want) {
		t.Errorf("got %+v\nwant %+v", g.Tensors, want)
	}
	if g.Counts["tokenizer.ggml.tokens"] != 2 || !reflect.DeepEqual(g.Trues["flags"], []int{1, 2}) {
		t.Errorf("arrays %v %v", g.Counts, g.Trues)
	}
	text, levels, err := g.Text()
	if wantText := (profile.Text{
		HiddenSize: 256, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 64, IntermediateSize: 512, VocabSize: 512,
		MaxPositions: 4096, TiedEmbeddings: true,
	}); err != nil || !reflect.DeepEqual(text, wantText) || levels != 3 {
		t.Errorf("got %+v, %d, %v", text, levels, err)
	}
}

// gguf-parser-go reads the same tensors and sizes.
func TestReadGGUFAgreesWithParser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.gguf")
	if err := os.WriteFile(path, append(small(), make([]byte, 4<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	theirs, err := parser.ParseGGUFFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := ReadGGUF(bytes.NewReader(small()))
	if err != nil {
		t.Fatal(err)
	}
	if len(theirs.TensorInfos) != len(ours.Tensors) {
		t.Fatalf("%d tensors, theirs %d", len(ours.Tensors), len(theirs.TensorInfos))
	}
	for i, info := range theirs.TensorInfos {
		o := ours.Tensors[i]
		if info.Name != o.Name || info.Bytes() != uint64(o.Bytes) || !strings.EqualFold(info.Type.String(), o.Type) {
			t.Errorf("ours %+v, theirs %s %v %d", o, info.Name, info.Type, info.Bytes())
		}
	}
	if architecture, ok := theirs.Header.MetadataKV.Get("general.architecture"); !ok ||
		architecture.ValueString() != ours.Strings["general.architecture"] {
		t.Error("architectures differ")
	}
}

func TestReadGGUFRefuses(t *testing.T) {
	header := func(values ...any) []byte {
		w := &writer{}
		w.WriteString("GGUF")
		return w.put(values...).Bytes()
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "ends early"},
		{"another file", []byte("PK\x03\x04aaaaaaaaaaaaaaaaaaaa"), "offset 4: not a GGUF file"},
		{"version 1", header(uint32(1), uint64(0), uint64(0)), "version 1"},
		{"many tensors", header(uint32(3), uint64(1)<<60, uint64(0)), "tensors: at most"},
		{"long string", header(uint32(3), uint64(0), uint64(1), uint64(1)<<40), "bytes of a string: at most"},
		{"cut short", small()[:200], "ends early"},
		{"nested array", header(uint32(3), uint64(0), uint64(1), "k", uint32(9), uint32(9), uint64(1)),
			"want numbers or strings"},
		{"unknown value", header(uint32(3), uint64(0), uint64(1), "k", uint32(77)), "unknown type 77"},
		{"unknown tensor type", header(uint32(3), uint64(1), uint64(0), "t", uint32(1), uint64(32), uint32(999), uint64(0)),
			"unknown type 999"},
		{"partial block", header(uint32(3), uint64(1), uint64(0), "t", uint32(1), uint64(33), uint32(8), uint64(0)),
			"not whole blocks"},
		{"huge tensor", header(uint32(3), uint64(1), uint64(0), "t", uint32(2), uint64(1)<<40, uint64(1)<<40, uint32(0),
			uint64(0)), "too large"},
	} {
		if _, err := ReadGGUF(bytes.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func safetensors(header string) []byte {
	return (&writer{}).put(uint64(len(header)), []byte(header)).Bytes()
}

func TestReadSafetensors(t *testing.T) {
	got, err := ReadSafetensors(bytes.NewReader(safetensors(`{"__metadata__":{"format":"pt"},"b":{"dtype":"BF16",` +
		`"shape":[2,3],"data_offsets":[4,16]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`)))
	want := []Tensor{{Name: "a", Type: "f32", Shape: []int64{1}, Bytes: 4},
		{Name: "b", Type: "bf16", Shape: []int64{2, 3}, Bytes: 12}}
	if err != nil || !reflect.DeepEqual(got, want) || Total(got) != 16 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, c := range []struct {
		data []byte
		want string
	}{
		{nil, "ends early"}, {safetensors("[1]"), "not JSON"}, {safetensors("{}")[:9], "ends early"},
		{(&writer{}).put(uint64(1) << 50).Bytes(), "at most"},
		{safetensors(`{"a":{"shape":[1]}}`), `tensor "a"`}, {safetensors(`{"a":{"dtype":"F32","data_offsets":[8,4]}}`),
			"data_offsets"},
	} {
		if _, err := ReadSafetensors(bytes.NewReader(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want an error with %q", c.data, err, c.want)
		}
	}
}

func FuzzReadGGUF(f *testing.F) {
	f.Add(small())
	f.Add([]byte("GGUF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ReadGGUF(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, x := range g.Tensors {
			if x.Bytes <= 0 {
				t.Errorf("tensor %+v without bytes", x)
			}
		}
		_, _, _ = g.Text()
		_, _ = g.Vision()
	})
}

func FuzzReadSafetensors(f *testing.F) {
	f.Add(safetensors(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, err := ReadSafetensors(bytes.NewReader(data))
		if err == nil && Total(tensors) < 0 {
			t.Error("a negative total")
		}
	})
}

func ExampleTotal() {
	fmt.Println(Total([]Tensor{{Bytes: 1024}, {Bytes: 1024}}))
	// Output: 2 KiB
}

// Decoders without images are told from Qwen3-VL's by their variant; what a file leaves out follows from the rest.
func TestTextOfOtherArchitectures(t *testing.T) {
	header := func(arch string, numbers map[string]float64) *GGUF {
		g := &GGUF{
			Strings: map[string]string{"general.architecture": arch}, Numbers: map[string]float64{},
			Tensors: []Tensor{{Name: "token_embd.weight", Shape: []int64{2048, 1000}}},
		}
		for key, v := range map[string]float64{"embedding_length": 2048, "block_count": 27, "attention.head_count": 16,
			"context_length": 4096, "feed_forward_length": 8192} {
			g.Numbers[arch+"."+key] = v
		}
		for key, v := range numbers {
			g.Numbers[arch+"."+key] = v
		}
		return g
	}
	text, levels, err := header("llama", map[string]float64{"attention.sliding_window": 4096}).Text()
	if err != nil || levels != 0 || text.HeadDim != 128 || text.KVHeads != 16 ||
		!reflect.DeepEqual(*text.Variant, profile.Variant{Architecture: "llama", PlainHeads: true}) {
		t.Errorf("llama: %+v, %+v, %v", text, text.Variant, err)
	}
	text, _, err = header("gemma3", map[string]float64{"attention.sliding_window": 512, "attention.key_length": 256,
		"attention.head_count_kv": 1}).Text()
	if err != nil || text.HeadDim != 256 || text.CacheRow() != 512 || !text.Slides(4) || text.Slides(5) ||
		text.CachedElements(2048) != 512*(23*511+4*2048) {
		t.Errorf("gemma3: %+v, %+v, %v", text, text.Variant, err)
	}
	text, _, err = header("deepseek2", map[string]float64{
		"attention.kv_lora_rank": 512, "rope.dimension_count": 64, "attention.key_length": 576,
		"attention.key_length_mla": 192, "attention.value_length_mla": 128,
		"expert_count": 64, "expert_used_count": 6, "expert_feed_forward_length": 1408, "leading_dense_block_count": 1,
		"expert_shared_count": 2,
	}).Text()
	want := profile.Variant{Architecture: "deepseek2", PlainHeads: true, DenseLayers: 1, SharedExperts: 2}
	if err != nil || text.CacheRow() != 576 || text.MoE.Experts != 64 ||
		*text.Variant.Latent != (profile.Latent{KVRank: 512, NopeDim: 128, RopeDim: 64, ValueDim: 128}) {
		t.Errorf("deepseek2: %+v, %+v, %v", text, text.Variant, err)
	}
	if got := *text.Variant; got.DenseLayers != want.DenseLayers || got.SharedExperts != want.SharedExperts {
		t.Errorf("deepseek2: %+v", got)
	}
	for want, g := range map[string]*GGUF{
		`general.architecture is "rwkv7", want one of deepseek2, gemma2`: header("rwkv7", nil),
		"llama.block_count missing": header("llama",
			map[string]float64{"block_count": 0}),
		"llama.attention.head_count_kv missing or not a whole number": header("llama",
			map[string]float64{"attention.head_count_kv": 1.5}),
	} {
		if _, _, err := g.Text(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
