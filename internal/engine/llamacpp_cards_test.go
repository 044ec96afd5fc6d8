package engine

import (
	"errors"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// unevenCards are alike cards with so much free on each.
func unevenCards(free ...units.Bytes) (list []profile.GPU) {
	for _, n := range free {
		list = append(list, profile.GPU{Name: "c", ComputeCapability: "8.6", MemoryBytes: 24 * units.GiB,
			FreeBytes: new(n)})
	}
	return list
}

// What v0.5.0's CUDA backend reserved for Qwen3-VL-4B in q8_0, -c 8192 -np 1, over cards with so much free: layers
// follow that unless -ts has a part above zero for one of the cards that are there.
func TestLayersFollowWhatIsFree(t *testing.T) {
	for _, c := range []struct {
		free   []units.Bytes
		shares []float64
		want   [2][3]units.Bytes // weights, KV cache and compute of each card
	}{
		{[]units.Bytes{6e9, 3e9}, nil, [2][3]units.Bytes{{2681369600, 838860800, 154206208},
			{1593078784, 369098752, 133235200}}},
		{[]units.Bytes{3e9, 6e9}, nil, [2][3]units.Bytes{{1394312192, 436207616, 154206208},
			{2880136192, 771751936, 133235200}}},
		{[]units.Bytes{6e9, 3e9}, []float64{0, 0}, [2][3]units.Bytes{{2681369600, 838860800, 154206208},
			{1593078784, 369098752, 133235200}}},
		{[]units.Bytes{6e9, 3e9}, []float64{1, 2, 3, 4}, [2][3]units.Bytes{{1394312192, 436207616, 154206208},
			{2880136192, 771751936, 133235200}}},
		{[]units.Bytes{0, 3e9}, nil, [2][3]units.Bytes{{}, {4274448384, 1207959552, 154206720}}},
	} {
		cards := unevenCards(c.free...)
		o := Options{Quant: "q8_0", Device: "gpu", Context: 8192, Sequences: 1, Image: &Image{}, GPU: &cards[0], GPUs: cards}
		o.Llama = LlamaOptions{Build: LlamaVersion, Cards: 2, Shares: c.shares, LoadMode: "none"}
		mem := estimate(t, "llama-server", model(t, "qwen3-vl-4b"), o)
		for i, name := range []string{Weights, KVCache, Compute} {
			for card, where := range []string{"device0", "device1"} {
				if got := mem.on(where, name); got != c.want[card][i] {
					t.Errorf("%v free, split %v: %s on %s is %d, the engine's %d", c.free, c.shares, name, where, got,
						c.want[card][i])
				}
			}
		}
	}
}

// Cards of which nobody counted what is free are an interval that holds what one of them would get with less; what the
// user shares out is none.
func TestUnknownFreeMemoryIsAnInterval(t *testing.T) {
	card := profile.GPU{Name: "c", ComputeCapability: "8.6", MemoryBytes: 8 * units.GiB}
	unknown := []profile.GPU{card, card}
	known := unevenCards(8*units.GiB, 7*units.GiB)
	of := func(cards []profile.GPU, shares ...float64) *Memory {
		o := Options{Quant: "q8_0", Device: "gpu", Context: 8192, Image: &Image{}, GPU: &cards[0], GPUs: cards}
		o.Llama = LlamaOptions{Build: LlamaVersion, Cards: 2, Shares: shares}
		return estimate(t, "llama.cpp", model(t, "qwen3-vl-4b"), o)
	}
	wide, less, named := of(unknown), of(known), of(unknown, 1, 1)
	for i, it := range wide.Items {
		if it.Name != Weights || it.Where == "host" {
			continue
		}
		if got := less.Items[i].Bytes; it.Low == it.High || got < it.Low || got > it.High || got == it.Bytes {
			t.Errorf("%s: %d to %d, with less free on the second %d", it.Where, it.Low, it.High, got)
		}
		if n := named.Items[i]; n.Low != n.High || n.Bytes != it.Bytes {
			t.Errorf("%s: named %d to %d, even %d", n.Where, n.Low, n.High, it.Bytes)
		}
	}
}

// Where nothing is free the engine finds no card for a layer and stops: that is refused with what works instead.
func TestNothingFreeOnAnyCard(t *testing.T) {
	cards := unevenCards(0, 0)
	o := Options{Quant: "q8_0", Device: "gpu", Image: &Image{}, GPU: &cards[0], GPUs: cards}
	o.Llama.Cards = 2
	var refusal *Refusal
	if _, err := Estimate("llama-server", model(t, "qwen3-vl-4b"), o); !errors.As(err, &refusal) {
		t.Errorf("%v", err)
	}
}

func TestDevicesAreReadAsLlamaReadsThem(t *testing.T) {
	for text, want := range map[string]struct {
		backend string
		numbers []int
	}{"CUDA0": {"cuda", []int{0}}, "CUDA1,CUDA0": {"cuda", []int{1, 0}}, "none": {}, "ROCm2": {"rocm", []int{2}},
		"MTL0": {"metal", []int{0}}, "Vulkan0,Vulkan1": {"vulkan", []int{0, 1}}, "GPUOpenCL": {"opencl", []int{0}}} {
		if backend, numbers, err := ParseDevices(text); err != nil || backend != want.backend ||
			!slices.Equal(numbers, want.numbers) {
			t.Errorf("%q: %s %v, %v", text, backend, numbers, err)
		}
	}
	for _, text := range []string{"", "cuda0", "CUDA", "CUDA00", "CUDA0,", "CUDA0,none", "CPU", "CUDA0,CUDA0",
		"CUDA0,Vulkan0", "CUDA-1", "GPU0"} {
		if backend, numbers, err := ParseDevices(text); err == nil {
			t.Errorf("%q is read as %s %v", text, backend, numbers)
		}
	}
}
