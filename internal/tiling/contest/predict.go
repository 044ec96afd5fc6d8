package contest

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/cachesim"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Predictions is what bench tiles prints for hardware that is not here: nothing in it was measured.
type Predictions struct {
	Hardware string          `json:"hardware" yaml:"hardware"`
	CPU      []CPUPrediction `json:"cpu,omitempty" yaml:"cpu,omitempty"`
	GPU      []GPUPrediction `json:"gpu,omitempty" yaml:"gpu,omitempty"`
	Reasons  []tiling.Reason `json:"reasons,omitempty" yaml:"reasons,omitempty"`
	Notes    []string        `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// CPUPrediction is one shape on one thread, with what its caches miss by simulation.
type CPUPrediction struct {
	Shape           string    `json:"shape" yaml:"shape"`
	Simulated       string    `json:"simulated" yaml:"simulated"` // the part that was replayed
	Tiles           string    `json:"tiles" yaml:"tiles"`
	MissesPerAccess []float64 `json:"misses_per_access" yaml:"misses_per_access"` // by level
	UntiledMisses   []float64 `json:"untiled_misses_per_access" yaml:"untiled_misses_per_access"`
}

// GPUPrediction is one shape on one card by the cost model.
type GPUPrediction struct {
	Card    string  `json:"card" yaml:"card"`
	Shape   string  `json:"shape" yaml:"shape"`
	Tiles   string  `json:"tiles" yaml:"tiles"`
	Blocks  int     `json:"blocks_per_sm" yaml:"blocks_per_sm"`
	Limit   string  `json:"limit" yaml:"limit"`
	Seconds float64 `json:"predicted_seconds" yaml:"predicted_seconds"`
	// predicted time over the choice's
	Baselines map[string]float64 `json:"baselines,omitempty" yaml:"baselines,omitempty"`
	Refused   map[string]string  `json:"refused,omitempty" yaml:"refused,omitempty"`
}

// Heads of the decoder whose attention is predicted: those of Qwen3-VL 4B, K and V in fp16.
const (
	predictedHeads   = 32
	predictedKVHeads = 8
)

// Predict lays out the shapes for hardware that is not here.
func Predict(h profile.Hardware, shapes []Shape) (*Predictions, error) {
	result := &Predictions{Hardware: h.Name}
	for _, s := range shapes {
		if h.CPU != nil {
			p, err := predictCPU(h, s)
			if err != nil {
				return nil, verdict.Unable.Of(err)
			}
			result.CPU = append(result.CPU, p)
		}
		for _, gpu := range h.GPUs {
			p, reasons, err := predictGPU(gpu, s)
			if err != nil {
				return nil, verdict.Unable.Errorf("%s: %w", gpu.Name, err)
			}
			result.GPU, result.Reasons = append(result.GPU, p), reasons
		}
	}
	if len(result.GPU) > 0 {
		result.Notes = append(result.Notes,
			fmt.Sprintf("GPU times are predicted by a cost model and not measured; attention is %d heads over %d KV heads, K "+
				"and V in fp16",
				predictedHeads, predictedKVHeads))
	}
	return result, nil
}

// What of a shape is replayed, so that the answer comes in seconds: enough rows of A that packing B is a small part,
// and as many columns as so many multiplications allow, which for a large K is still more of B than caches hold.
const (
	simulatedProducts = 3e8
	simulatedRows     = 96
)

// simulated is the part of a shape that is replayed: rows and columns of a product, queries of attention.
func (s Shape) simulated() Shape {
	fit := func(n, beside int) int { return max(1, min(n, int(simulatedProducts/float64(beside)))) }
	if s.attention {
		s.size[0] = fit(s.size[0], s.size[1]*s.size[2])
		return s
	}
	s.size[0] = min(s.size[0], max(simulatedRows, fit(s.size[0], s.size[1]*s.size[2])))
	s.size[1] = fit(s.size[1], s.size[0]*s.size[2])
	return s
}

func predictCPU(h profile.Hardware, s Shape) (CPUPrediction, error) {
	headDim := 0
	if s.attention {
		headDim = s.size[2]
	}
	tiles, err := tiling.CPU(*h.CPU, h.Measured, tiling.CPUWork{HeadDim: headDim, Threads: 1})
	if err != nil {
		return CPUPrediction{}, err
	}
	part := s.simulated()
	m, n, k := part.size[0], part.size[1], part.size[2]
	v := kernel.For(h.CPU.ISA)
	blocks := kernel.Blocks{MC: tiles.SGEMM.MC, NC: tiles.SGEMM.NC, KC: tiles.SGEMM.KC}
	rows := kernel.AttentionBlocks{Queries: tiles.Attention.BlockQ, Keys: tiles.Attention.BlockKV}
	replay := func(how kernel.How) ([]float64, error) {
		caches, err := cachesim.Of(*h.CPU)
		if err != nil {
			return nil, err
		}
		if s.attention {
			return perAccess(cachesim.Attention(caches, v, how, m, n, k, rows)), nil
		}
		return perAccess(cachesim.Multiply(caches, v, how, m, n, k, blocks)), nil
	}
	p := CPUPrediction{Shape: s.String(), Simulated: part.String(),
		Tiles: fmt.Sprintf("mc %d, nc %d, kc %d", blocks.MC, blocks.NC, blocks.KC)}
	if s.attention {
		p.Tiles = fmt.Sprintf("block_q %d, block_kv %d", rows.Queries, rows.Keys)
	}
	if p.MissesPerAccess, err = replay(kernel.Tiled); err == nil {
		p.UntiledMisses, err = replay(kernel.Untiled)
	}
	return p, err
}

// perAccess is each level's misses over the accesses of the kernel.
func perAccess(counts []cachesim.Counts) []float64 {
	var list []float64
	for _, c := range counts {
		list = append(list, float64(c.Misses)/float64(counts[0].Accesses))
	}
	return list
}

func predictGPU(gpu profile.GPU, s Shape) (GPUPrediction, []tiling.Reason, error) {
	p := GPUPrediction{Card: gpu.Name, Shape: s.String(), Baselines: map[string]float64{}, Refused: map[string]string{}}
	if !s.attention {
		c, err := tiling.MatMul(gpu, s.product())
		if err != nil {
			return p, nil, err
		}
		p.Tiles = fmt.Sprintf("%d x %d x %d, %d threads, %s shared", c.BlockM, c.BlockN, c.BlockK, c.Threads,
			c.SharedMemoryBytes)
		p.Blocks, p.Limit, p.Seconds = c.BlocksPerSM, c.Limit, c.Seconds
		p.compare("128x128x8", c.Default.Seconds, c.DefaultRefused)
		return p, c.Reasons, nil
	}
	w := tiling.AttentionWork{Queries: s.size[0], Keys: s.size[1], Heads: predictedHeads, KVHeads: predictedKVHeads,
		KV: profile.FP16}
	c, err := tiling.Attention(gpu, s.size[2], w)
	if err != nil {
		return p, nil, err
	}
	p.Tiles = fmt.Sprintf("%d x %d, slice %d, %d threads, %s shared", c.BlockQ, c.BlockKV, c.Slice, c.Threads,
		c.SharedMemoryBytes)
	p.Blocks, p.Limit, p.Seconds = c.BlocksPerSM, c.Prediction.Limit, c.Seconds
	for _, b := range append([]tiling.AttentionBaseline{c.Rule}, c.Others...) {
		p.compare(b.Name, b.Plan.Seconds, b.Refused)
	}
	return p, c.Reasons, nil
}

// Baselines are the names of what a choice is compared with, in the order that they are shown.
var Baselines = []string{"rule", "llama.cpp", "128x128x8"}

func (p *GPUPrediction) compare(name string, seconds float64, refused string) {
	if refused != "" {
		p.Refused[name] = refused
	} else {
		p.Baselines[name] = seconds / p.Seconds
	}
}
