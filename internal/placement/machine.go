package placement

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What no profile says and no probe measured, with where it comes from. Results carry these as assumed.
const (
	assumedPageable = 0.5       // of the pinned rate: a pageable copy goes through a staging buffer of the driver's
	assumedFault    = 30e-6     // seconds of a GPU page fault serviced by the driver, Pascal
	assumedLaunch   = 5e-6      // seconds of submitting work to a card
	contextBytes    = 400 << 20 // what a context and its libraries take of a card
)

// MachineOf takes the first card of a profile, less what a context needs, and the host memory that may be locked.
func MachineOf(h profile.Hardware) (Machine, error) {
	if len(h.GPUs) == 0 {
		return Machine{}, fmt.Errorf("%s has no card to place memory on", h.Name)
	}
	g := h.GPUs[0]
	m := Machine{
		DeviceBytes:  max(0, int64(g.MemoryBytes)-contextBytes),
		DeviceRate:   float64(g.BandwidthBytesPerS),
		FaultSeconds: assumedFault,
		Managed:      g.ManagedMemory,
		Source: map[string]string{
			"device_bytes":  fmt.Sprintf("derived: the card's memory less %v assumed for a context", units.Bytes(contextBytes)),
			"device_rate":   "profile: theoretical bandwidth",
			"fault_seconds": "assumed",
		},
	}
	m.PinnedRate, m.Source["pinned_rate"] = firstOf(
		rate{g.H2DPinnedBytesPerS, "measured"}, rate{g.HostBandwidthBytesPerS, "profile: bus, one way"})
	if m.PinnedRate == 0 {
		return Machine{}, fmt.Errorf("%s: host_bandwidth_bytes_per_s is not known, and placing needs the rate of the bus",
			g.Name)
	}
	m.PageableRate, m.Source["pageable_rate"] = firstOf(
		rate{g.H2DPageableBytesPerS, "measured"}, rate{units.Rate(assumedPageable * m.PinnedRate),
			"assumed: half the pinned rate"})
	m.PinnedBytes, m.Source["pinned_bytes"] = lockable(h.Memory)
	return m, nil
}

type rate struct {
	value  units.Rate
	source string
}

func firstOf(list ...rate) (float64, string) {
	for _, r := range list {
		if r.value > 0 {
			return float64(r.value), r.source
		}
	}
	return 0, ""
}

// lockable is the host memory that a driver may pin: half of what a process may fill. The driver's locking does not
// count against RLIMIT_MEMLOCK.
func lockable(m *profile.Memory) (int64, string) {
	if m == nil {
		return 8 << 30, "assumed: the profile says nothing of host memory"
	}
	return int64(m.Usable()) / 2, "derived: half of the host's memory"
}

// RatesOf is a card as stream.Sim takes it.
func RatesOf(g profile.GPU) (stream.Rates, error) {
	r := stream.Rates{
		MemoryBytesPerS: float64(g.BandwidthBytesPerS),
		FlopsPerS:       g.FP32FlopsPerS,
		LaunchSeconds:   g.LaunchLatencySeconds,
		CopyEngines:     max(1, g.CopyEngines),
	}
	r.UploadBytesPerS, _ = firstOf(rate{g.H2DPinnedBytesPerS, ""}, rate{g.HostBandwidthBytesPerS, ""})
	r.DownloadBytesPerS, _ = firstOf(rate{g.D2HPinnedBytesPerS, ""}, rate{g.HostBandwidthBytesPerS, ""})
	if r.LaunchSeconds == 0 {
		r.LaunchSeconds = assumedLaunch
	}
	if r.UploadBytesPerS == 0 || r.FlopsPerS == 0 || r.MemoryBytesPerS == 0 {
		return stream.Rates{}, fmt.Errorf("%s: simulating it needs host_bandwidth_bytes_per_s, fp32_flops_per_s and "+
			"bandwidth_bytes_per_s", g.Name)
	}
	return r, nil
}

// Shape is how a model runs: what fixes the sizes of its objects.
type Shape struct {
	WeightBits  float64 // of the decoder, with scales: 4.5 for blocks of 32 four-bit weights with an fp16 scale
	VisionBits  float64 // of the vision tower, 16 mostly
	Tokens      int     // in the KV cache
	KV          profile.DType
	ImagePeriod int // steps from one image to the next
}

// ObjectsOf lists a model in order of execution: vision blocks, embedding, layers with their caches, output head.
func ObjectsOf(m *profile.Model, s Shape) ([]Object, error) {
	if s.WeightBits <= 0 || s.VisionBits <= 0 || s.Tokens <= 0 || s.KV.Bytes() == 0 || s.ImagePeriod <= 0 {
		return nil, fmt.Errorf("placing %s: shape %+v must be above zero throughout", m.Name, s)
	}
	p, layers := m.Parameters(), int64(m.Text.Layers)
	each := func(b int64) float64 { return float64(b) / float64(s.ImagePeriod) }
	var list []Object
	for i := range m.Vision.Depth {
		b := weights(p.VisionCore/int64(m.Vision.Depth), s.VisionBits)
		list = append(list, Object{Name: fmt.Sprintf("vision.%d", i), Kind: "vision", Bytes: b, Touched: each(b)})
	}
	b := weights(p.Merger+p.Deepstack, s.VisionBits)
	list = append(list, Object{Name: "merger", Kind: "vision", Bytes: b, Touched: each(b)})
	b = weights(p.Embed, s.WeightBits)
	row := float64(b) / float64(m.Text.VocabSize)
	list = append(list, Object{Name: "embedding", Kind: "embedding", Bytes: b, Touched: row, Sparse: true})
	cache := int64(m.KVBytesPerToken(s.KV)) / layers * int64(s.Tokens)
	for i := range m.Text.Layers {
		list = append(list, layerOf(m, p.Layers/layers, i, s.WeightBits)...)
		list = append(list, Object{Name: fmt.Sprintf("kv.%d", i), Kind: "kv_cache", Bytes: cache, Touched: float64(cache),
			Written: true})
	}
	head := weights(p.Embed, s.WeightBits)
	if p.LMHead == 0 {
		// A tied head reads the embedding's own bytes: they are dense then, and one object.
		for i := range list {
			if list[i].Name == "embedding" {
				list[i].Touched, list[i].Sparse = float64(head), false
			}
		}
		return list, nil
	}
	return append(list, Object{Name: "lm_head", Kind: "weights", Bytes: head, Touched: float64(head)}), nil
}

// layerOf is the weights of one layer. Of a mixture, the experts are an object of their own, of which a token reads a
// few.
func layerOf(m *profile.Model, parameters int64, i int, bits float64) []Object {
	name := fmt.Sprintf("layer.%d", i)
	moe := m.Text.MoE
	if moe == nil {
		b := weights(parameters, bits)
		return []Object{{Name: name, Kind: "weights", Bytes: b, Touched: float64(b)}}
	}
	experts := int64(moe.Experts) * 3 * int64(m.Text.HiddenSize) * int64(moe.IntermediateSize)
	dense, sparse := weights(parameters-experts, bits), weights(experts, bits)
	read := float64(sparse) * float64(moe.ExpertsPerToken) / float64(moe.Experts)
	return []Object{
		{Name: name, Kind: "weights", Bytes: dense, Touched: float64(dense)},
		{Name: name + ".experts", Kind: "experts", Bytes: sparse, Touched: read, Sparse: true},
	}
}

func weights(parameters int64, bits float64) int64 { return int64(float64(parameters) * bits / 8) }
