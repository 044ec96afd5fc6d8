package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// deltaPrefill is what the gated delta rule of one layer holds at the peak of a prefill of T tokens in each of B
// sequences, in transformers' own code, which runs where flash-linear-attention is not installed. It cuts the prompt
// into chunks of 64, pads the last, and computes in fp32. With nk, nv heads of dk, dv = 128, e bytes an element:
//
//	U = B·⌈T/64⌉·64·nv·dv·4          one tensor of the padded prompt
//	S = B·nv·dk·dv·4                  one state
//	peak = max(10.52·U + 5.02·S, 11.525·U + 2.01·S) + B·T·(2·nk·dk + 2·nv·dv)·e
//
// fitted to transformers 5.24 on a CPU at 64 to 4,096 tokens, within 0.2 %. Heads of other widths took 9 to 20 such
// tensors: there the figure is a middle, and known is false.
func deltaPrefill(a *profile.Linear, tokens, sequences int, element int64) (peak units.Bytes, known bool) {
	chunked := float64((tokens+63)/64*64) * float64(sequences)
	u := chunked * float64(a.ValueHeads*a.ValueDim) * 4
	s := float64(sequences) * float64(a.RecurrentBytes())
	rows := float64(sequences*tokens) * float64(2*a.KeyHeads*a.KeyDim+2*a.ValueHeads*a.ValueDim) * float64(element)
	if known = a.KeyDim == 128 && a.ValueDim == 128; !known {
		return units.Bytes(14*u + 2*s + rows), false
	}
	return units.Bytes(max(10.52*u+5.02*s, 11.525*u+2.01*s) + rows), true
}

// deltaCompute lifts the prefill's working memory to that of the gated delta rule where a decoder has it: hidden states
// and their norm lie beside it, and the caches of the layers before. Without the working memory of attention and MLP,
// which is smaller, the lower bound is that of the kernels of flash-linear-attention.
func (mem *Memory) deltaCompute(m *profile.Model, o Options, c call, cached, cache units.Bytes) {
	a := m.Text.Variant.Linear
	peak, known := deltaPrefill(a, c.prompt, c.sequences, c.element)
	peak += units.Bytes(2*int64(c.prompt*c.sequences)*int64(m.Text.HiddenSize)*c.element) + cached - cache
	for i := range mem.Items {
		it := &mem.Items[i]
		if it.Name != Compute || it.Bytes >= peak {
			continue
		}
		least := it.Low
		if o.Device == "cpu" {
			least = scaled(peak, 0.95)
		}
		it.Bytes, it.Low, it.High, it.Source = peak, least, scaled(peak, 1.05), Measured
		it.Why = fmt.Sprintf("prefill of %d tokens: the gated delta rule in chunks of 64, without flash-linear-attention",
			c.prompt*c.sequences)
		if !known {
			it.Low, it.High, it.Source = min(least, scaled(peak, 0.6)), scaled(peak, 1.5), Assumed
		}
	}
}
