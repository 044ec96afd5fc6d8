package main

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/cachesim"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// predictedTiles is what bench tiles prints for hardware that is not here: nothing in it was measured.
type predictedTiles struct {
	Hardware string          `json:"hardware" yaml:"hardware"`
	CPU      []predictedCPU  `json:"cpu,omitempty" yaml:"cpu,omitempty"`
	GPU      []predictedGPU  `json:"gpu,omitempty" yaml:"gpu,omitempty"`
	Reasons  []tiling.Reason `json:"reasons,omitempty" yaml:"reasons,omitempty"`
	Notes    []string        `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// predictedCPU is one shape on one thread, with what its caches miss by simulation.
type predictedCPU struct {
	Shape           string    `json:"shape" yaml:"shape"`
	Simulated       string    `json:"simulated" yaml:"simulated"` // the part that was replayed
	Tiles           string    `json:"tiles" yaml:"tiles"`
	MissesPerAccess []float64 `json:"misses_per_access" yaml:"misses_per_access"` // by level
	UntiledMisses   []float64 `json:"untiled_misses_per_access" yaml:"untiled_misses_per_access"`
}

// predictedGPU is one shape on one card by the cost model.
type predictedGPU struct {
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

func predictTiles(h profile.Hardware, shapes []tileShape) (*predictedTiles, error) {
	result := &predictedTiles{Hardware: h.Name}
	for _, s := range shapes {
		if h.CPU != nil {
			p, err := predictCPU(h, s)
			if err != nil {
				return nil, exitWith(exitUnable, err)
			}
			result.CPU = append(result.CPU, p)
		}
		for _, gpu := range h.GPUs {
			p, reasons, err := predictGPU(gpu, s)
			if err != nil {
				return nil, exitWith(exitUnable, fmt.Errorf("%s: %w", gpu.Name, err))
			}
			result.GPU, result.Reasons = append(result.GPU, p), reasons
		}
	}
	if len(result.GPU) > 0 {
		result.Notes = append(result.Notes,
			fmt.Sprintf("GPU times are predicted by a cost model and not measured; attention is %d heads over %d KV heads, K and V in fp16",
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
func (s tileShape) simulated() tileShape {
	fit := func(n, beside int) int { return max(1, min(n, int(simulatedProducts/float64(beside)))) }
	if s.attention {
		s.size[0] = fit(s.size[0], s.size[1]*s.size[2])
		return s
	}
	s.size[0] = min(s.size[0], max(simulatedRows, fit(s.size[0], s.size[1]*s.size[2])))
	s.size[1] = fit(s.size[1], s.size[0]*s.size[2])
	return s
}

func predictCPU(h profile.Hardware, s tileShape) (predictedCPU, error) {
	headDim := 0
	if s.attention {
		headDim = s.size[2]
	}
	tiles, err := tiling.CPU(*h.CPU, h.Measured, tiling.CPUWork{HeadDim: headDim, Threads: 1})
	if err != nil {
		return predictedCPU{}, err
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
	p := predictedCPU{Shape: s.String(), Simulated: part.String(),
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

func predictGPU(gpu profile.GPU, s tileShape) (predictedGPU, []tiling.Reason, error) {
	p := predictedGPU{Card: gpu.Name, Shape: s.String(), Baselines: map[string]float64{}, Refused: map[string]string{}}
	if !s.attention {
		c, err := tiling.MatMul(gpu, tiling.MatMulWork{M: s.size[0], N: s.size[1], K: s.size[2]})
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

func (p *predictedGPU) compare(name string, seconds float64, refused string) {
	if refused != "" {
		p.Refused[name] = refused
	} else {
		p.Baselines[name] = seconds / p.Seconds
	}
}

func (r *predictedTiles) write(w io.Writer) error {
	fmt.Fprintf(w, "%s: predicted, nothing here was measured\n", r.Hardware)
	if len(r.CPU) > 0 {
		var rows [][]string
		for _, c := range r.CPU {
			rows = append(rows, []string{c.Shape, c.Tiles, percentages(c.MissesPerAccess), percentages(c.UntiledMisses),
				c.Simulated})
		}
		fmt.Fprintf(w, "\nmisses per access by level, one thread, exact caches without prefetching\n")
		if err := report.Table(w, []string{"SHAPE", "TILES", "TILED", "UNTILED", "SIMULATED"}, rows); err != nil {
			return err
		}
	}
	if len(r.GPU) > 0 {
		var rows [][]string
		for _, g := range r.GPU {
			rows = append(rows, []string{g.Card, g.Shape, g.Tiles, fmt.Sprint(g.Blocks), fmt.Sprintf("%.2f ms", 1e3*g.Seconds),
				g.Limit, g.against()})
		}
		fmt.Fprintln(w)
		if err := report.Table(w, []string{"CARD", "SHAPE", "TILES", "BLOCKS/SM", "PREDICTED", "LIMIT", "OTHERS TAKE"}, rows,
			3, 4); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote  %s\n", n)
	}
	return nil
}

// against says how long the baselines take beside the choice.
func (p *predictedGPU) against() string {
	text := ""
	for _, name := range []string{"rule", "llama.cpp", "128x128x8"} {
		if ratio, ok := p.Baselines[name]; ok {
			text += fmt.Sprintf("%s %.2f  ", name, ratio)
		} else if _, ok := p.Refused[name]; ok {
			text += name + " refused  "
		}
	}
	return text
}

func percentages(shares []float64) string {
	text := ""
	for i, s := range shares {
		if i > 0 {
			text += " / "
		}
		text += fmt.Sprintf("%.2f", 100*s)
	}
	return text + " %"
}

// String writes a shape as --shapes takes it.
func (s tileShape) String() string {
	text := fmt.Sprintf("%dx%dx%d", s.size[0], s.size[1], s.size[2])
	if s.attention {
		return "attention:" + text
	}
	return text
}
