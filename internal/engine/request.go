package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
)

// Request is the trace of one request to an engine that reserves buffers once. The buffers are those of its own graphs:
// once for the image it warms up with, once for the one that is sent.
func Request(name string, model profile.Model, context int, r workload.Options) (*trace.Trace, error) {
	if err := r.Alone(); err != nil {
		return nil, fmt.Errorf("--engine %s: %w", name, err)
	}
	settings := Options{Context: context, FlashAttention: "auto", Device: "cpu"}
	settings.Image = &Image{Width: r.Width, Height: r.Height}
	sent, err := Estimate(name, &model, settings)
	if err != nil {
		return nil, err
	}
	b := workload.LlamaBuffers{
		KVCache: int64(sent.KVCacheBytes), Compute: int64(sent.ComputeBytes), Output: int64(sent.OutputBytes),
		Vision: int64(sent.VisionBytes),
	}
	if r.Width > 0 {
		settings.Image = nil
		warm, err := Estimate(name, &model, settings)
		if err != nil {
			return nil, err
		}
		b.VisionWarmUp = int64(warm.VisionBytes)
	}
	return workload.LlamaCPP(model, b, workload.LlamaOptions{
		Width: r.Width, Height: r.Height, PromptTokens: r.PromptTokens, DecodeTokens: r.DecodeTokens,
	})
}
