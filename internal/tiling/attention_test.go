package tiling

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"pgregory.net/rapid"
)

// pascal is a GTX 1080 as its data sheet has it.
func pascal() profile.GPU {
	return profile.GPU{Name: "GTX 1080", ComputeCapability: "6.1", MemoryBytes: 8 << 30, SMCount: 20,
		SharedMemoryPerBlockBytes: 48 << 10, SharedMemoryPerSMBytes: 96 << 10, MaxThreadsPerBlock: 1024,
		MaxThreadsPerSM: 2048,
		MaxBlocksPerSM:  32, RegistersPerSM: 65536, RegistersPerBlock: 65536, L2Bytes: 2 << 20, BandwidthBytesPerS: 320e9,
		FP32FlopsPerS: 8.9e12}
}

func prefill(kv profile.DType) AttentionWork {
	return AttentionWork{Queries: 2048, Keys: 2048, Heads: 32, KVHeads: 8, KV: kv}
}

func TestSharedMemoryRule(t *testing.T) {
	for _, c := range []struct{ headDim, tile int }{
		{32, 128}, {64, 64}, {72, 32}, {80, 32}, {96, 32}, {128, 32}, {256, 16}, {512, 8}, {513, 0}, {576, 0}, {0, 0},
		{-1, 0},
	} {
		if tile, ok := SharedMemoryRule(pascal(), c.headDim); tile != c.tile || ok != (c.tile > 0) {
			t.Errorf("head_dim %d: %d, %v; want %d", c.headDim, tile, ok, c.tile)
		}
	}
}

func TestRuleRefusesWhatTheChoiceServes(t *testing.T) {
	c, err := Attention(pascal(), 576, prefill(profile.FP16))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Rule.Refused, "55,296 B of 49,152 B") {
		t.Errorf("the rule is refused with %q", c.Rule.Refused)
	}
	if c.SharedMemoryBytes > 48<<10 || c.BlocksPerSM < 1 || c.Seconds <= 0 || c.Prediction.Limit == "" {
		t.Errorf("the choice is %+v", c.AttentionPlan)
	}
}

func TestAttentionRefuses(t *testing.T) {
	old, bare := pascal(), pascal()
	old.ComputeCapability = "5.2"
	bare.SMCount = 0
	for name, c := range map[string]struct {
		gpu     profile.GPU
		headDim int
		work    AttentionWork
	}{
		"compute capability 5.2": {old, 64, prefill(profile.FP16)},
		"no SM count":            {bare, 64, prefill(profile.FP16)},
		"head dimension 0":       {pascal(), 0, prefill(profile.FP16)},
		"head dimension 66":      {pascal(), 66, prefill(profile.FP16)},
		"element type":           {pascal(), 64, prefill("fp4")},
		"5 heads over 2":         {pascal(), 64, AttentionWork{Queries: 1, Keys: 1, Heads: 5, KVHeads: 2, KV: profile.FP32}},
	} {
		if _, err := Attention(c.gpu, c.headDim, c.work); err == nil {
			t.Errorf("%s: no error", name)
		} else if words := strings.Fields(name); !strings.Contains(err.Error(), words[0]) {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
}

// No choice may ask a card for what it does not have, whatever the card.
func TestChoicesStayWithinTheCard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gpu := pascal()
		gpu.ComputeCapability = rapid.SampledFrom([]string{"6.0", "6.1", "6.2", "7.0", "7.5", "8.0", "8.6", "8.9", "9.0",
			"12.0"}).Draw(t, "cc")
		gpu.SMCount = rapid.IntRange(1, 140).Draw(t, "SMs")
		gpu.SharedMemoryPerBlockBytes <<= rapid.IntRange(0, 1).Draw(t, "shared")
		gpu.MaxThreadsPerBlock = 1 << rapid.IntRange(6, 10).Draw(t, "threads")
		gpu.RegistersPerBlock = 32768 << rapid.IntRange(0, 1).Draw(t, "registers")
		gpu.MaxThreadsPerSM, gpu.MaxBlocksPerSM, gpu.SharedMemoryPerSMBytes = 0, 0, 0
		headDim := 8 * rapid.IntRange(1, 80).Draw(t, "headDim/8")
		group := rapid.IntRange(1, 8).Draw(t, "group")
		kvHeads := rapid.IntRange(1, 8).Draw(t, "kvHeads")
		work := AttentionWork{
			Queries: rapid.IntRange(1, 5000).Draw(t, "queries"), Keys: rapid.IntRange(1, 5000).Draw(t, "keys"),
			Heads: group * kvHeads, KVHeads: kvHeads,
			KV: rapid.SampledFrom([]profile.DType{profile.FP32, profile.FP16, profile.INT8}).Draw(t, "kv"),
		}
		c, err := Attention(gpu, headDim, work)
		if err != nil {
			return
		}
		switch o, err := OccupancyOf(gpu, Launch{c.Threads, c.Registers, c.SharedMemoryBytes}); {
		case err != nil:
			t.Fatalf("%+v cannot be launched: %v", c.AttentionPlan, err)
		case o != c.Occupancy:
			t.Fatalf("occupancy is %+v, the choice says %+v", o, c.Occupancy)
		case c.SharedMemoryBytes > gpu.SharedMemoryPerBlockBytes || c.Threads > gpu.MaxThreadsPerBlock || c.Registers > 255:
			t.Fatalf("%+v exceeds the card", c.AttentionPlan)
		}
		// The rule's own kernel keeps scores where K was, so only its tile in ours is a bound on every card.
		if rule := c.Rule.Plan.AttentionTile; c.Rule.Refused == "" && rule.BlockQ <= min(headDim, 128) {
			if p, err := PlanAttention(gpu, headDim, work, rule, 0); err == nil && c.Seconds > p.Seconds {
				t.Fatalf("the rule's tile takes %g s, the choice %g", p.Seconds, c.Seconds)
			}
		}
	})
}
