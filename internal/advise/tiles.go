package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/units"
)

// Tiles are the tile sizes of the kernels.
type Tiles struct {
	CPU *CPUTiles `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	GPU *GPUTiles `yaml:"gpu,omitempty" json:"gpu,omitempty"`
}

// CPUTiles are the blocks of a matrix product in fp32 and of attention on the processor.
type CPUTiles struct {
	Kernel  Value[string] `yaml:"kernel" json:"kernel"`
	Threads Value[int]    `yaml:"threads" json:"threads"`
	MR      Value[int]    `yaml:"mr" json:"mr"`
	NR      Value[int]    `yaml:"nr" json:"nr"`
	KC      Value[int]    `yaml:"kc" json:"kc"`
	MC      Value[int]    `yaml:"mc" json:"mc"`
	NC      Value[int]    `yaml:"nc" json:"nc"`
	BlockQ  Value[int]    `yaml:"attention_block_q" json:"attention_block_q"`
	BlockKV Value[int]    `yaml:"attention_block_kv" json:"attention_block_kv"`
}

// GPUTiles are the tiles of each attention of the model, by head dimension.
type GPUTiles struct {
	Attention []GPUAttention `yaml:"attention" json:"attention"`
}

// GPUAttention is one attention's tile and what it takes.
type GPUAttention struct {
	HeadDim      Value[int]         `yaml:"head_dim" json:"head_dim"`
	BlockQ       Value[int]         `yaml:"block_q" json:"block_q"`
	BlockKV      Value[int]         `yaml:"block_kv" json:"block_kv"`
	Slice        Value[int]         `yaml:"head_slice" json:"head_slice"`
	Threads      Value[int]         `yaml:"threads" json:"threads"`
	SharedMemory Value[units.Bytes] `yaml:"shared_memory_bytes" json:"shared_memory_bytes"`
	BlocksPerSM  Value[int]         `yaml:"blocks_per_sm" json:"blocks_per_sm"`
	SharedRule   Value[int]         `yaml:"shared_memory_rule_tile" json:"shared_memory_rule_tile"`
}

func (in *Inputs) tiles() (Tiles, []evidence.Warning, error) {
	var t Tiles
	var warnings []evidence.Warning
	if c, m := in.Hardware.CPU, in.Hardware.Measured; tiling.Known(c, m) {
		threads, why := in.Hardware.Compute()
		got, err := tiling.CPU(*c, m, tiling.CPUWork{HeadDim: in.Model.Text.HeadDim, Threads: threads})
		if err != nil {
			return Tiles{}, nil, err
		}
		t.CPU, warnings = cpuTiles(got, why), got.Warnings
	} else if c != nil {
		warnings = append(warnings,
			evidence.Warn(NoTiles, "the processor's caches are unknown: no tiles for it"))
	}
	switch g := in.tiledGPU(); {
	case g == nil:
	case g.BandwidthBytesPerS == 0 || g.SMCount == 0:
		warnings = append(warnings, evidence.Warn(NoTiles,
			"%s tells no memory bandwidth or no count of multiprocessors: no tiles for it", g.Name))
	default:
		var err error
		if t.GPU, err = in.gpuTiles(*g); err != nil {
			return Tiles{}, nil, err
		}
	}
	return t, warnings, nil
}

func cpuTiles(got tiling.CPUTiles, threads string) *CPUTiles {
	value := func(field string, v int) Value[int] {
		for _, r := range got.Reasons {
			if r.Field == field {
				return evidence.Of(v, r.Text, Source(r.Source))
			}
		}
		return derived(v, "follows from the others")
	}
	return &CPUTiles{
		Kernel:  derived(got.Variant, "the widest vectors that the processor reports"),
		Threads: derived(got.Threads, threads),
		MR:      value("mr", got.SGEMM.MR), NR: value("nr", got.SGEMM.NR), KC: value("kc", got.SGEMM.KC),
		MC: value("mc", got.SGEMM.MC), NC: value("nc", got.SGEMM.NC),
		BlockQ: value("block_q", got.Attention.BlockQ), BlockKV: value("block_kv", got.Attention.BlockKV),
	}
}

// tiledGPU is the card with, where it shares the host's memory and tells no bandwidth, the host's as measured; nil for
// none.
func (in *Inputs) tiledGPU() *profile.GPU {
	g := in.gpu()
	if g == nil {
		return nil
	}
	card := *g
	if m := in.Hardware.Measured; card.BandwidthBytesPerS == 0 && card.UnifiedMemory && m != nil {
		card.BandwidthBytesPerS = m.DRAMReadBytesPerS
	}
	return &card
}

// gpuTiles chooses tiles for the decoder's prefill at the limits, and for the vision tower over the largest image.
func (in *Inputs) gpuTiles(gpu profile.GPU) (*GPUTiles, error) {
	grid, err := in.Model.ImageGrid(in.Limits.ImageWidth, in.Limits.ImageHeight)
	if err != nil {
		return nil, err
	}
	t, v := in.Model.Text, in.Model.Vision
	var g GPUTiles
	for _, work := range []struct {
		what    string
		headDim int
		tiling.AttentionWork
	}{
		{"vision tower", v.HiddenSize / v.Heads, tiling.AttentionWork{Queries: grid.Patches, Keys: grid.Patches,
			Heads: v.Heads, KVHeads: v.Heads, KV: profile.FP16}},
		{"decoder", t.HeadDim, tiling.AttentionWork{Queries: in.Limits.ContextTokens, Keys: in.Limits.ContextTokens,
			Heads: t.Heads, KVHeads: t.KVHeads, KV: profile.FP16}},
	} {
		choice, err := tiling.Attention(gpu, work.headDim, work.AttentionWork)
		if err != nil {
			return nil, fmt.Errorf("choosing tiles for the %s: %w", work.what, err)
		}
		g.Attention = append(g.Attention, in.gpuAttention(work.what, choice))
	}
	return &g, nil
}

func (in *Inputs) gpuAttention(what string, c tiling.AttentionChoice) GPUAttention {
	rule, why := 0, "the rule fits no tile of eight rows"
	if tile, ok := tiling.SharedMemoryRule(*in.gpu(), c.HeadDim); ok {
		rule, why = tile, fmt.Sprintf("largest power of two with 3 x T x %d x 4 B in shared memory", c.HeadDim)
		if s := c.Rule.Plan.Seconds; s > 0 && c.Seconds > 0 {
			why += fmt.Sprintf("; predicted %.2f times the chosen tile's time", s/c.Seconds)
		}
	}
	return GPUAttention{
		HeadDim: derived(c.HeadDim, "of the "+what),
		BlockQ: derived(c.BlockQ, fmt.Sprintf("least predicted time of %s tiles; bound by %s",
			units.Grouped(int64(c.Candidates)), c.Limit)),
		BlockKV:      derived(c.BlockKV, "chosen together with block_q"),
		Slice:        derived(c.Slice, "columns of the head staged at a time"),
		Threads:      derived(c.Threads, fmt.Sprintf("%d lanes share a row", c.Lanes)),
		SharedMemory: derived(c.SharedMemoryBytes, fmt.Sprintf("of %s a block may have", in.gpu().SharedMemoryPerBlockBytes)),
		BlocksPerSM:  derived(c.BlocksPerSM, fmt.Sprintf("limited by %s", c.LimitedBy)),
		SharedRule:   derived(rule, why),
	}
}
