package engine

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
)

// fusedDelta lowers the bound of a decoder with gated delta layers to what their prefill takes on a card where
// flash-linear-attention and causal-conv1d are installed: the working memory beside the cache, replayed with their
// kernels in the place of transformers' own code.
func (mem *Memory) fusedDelta(m *profile.Model, c call, attention workload.Attention, beside units.Bytes) error {
	c.fused = true
	p, err := replayCall(m, c, attention)
	if err != nil {
		return err
	}
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == Compute {
			it.Low = min(it.Low, max(0, p.prefill-p.visionBytes-beside))
			it.Why += "; without flash-linear-attention, whose kernels would take less"
		}
	}
	return nil
}
