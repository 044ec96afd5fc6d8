package workload

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// LlamaBuffers are the buffers that llama.cpp takes, in bytes; package engine derives them from the graphs.
type LlamaBuffers struct {
	KVCache      int64 // of the whole context
	Compute      int64 // of the decoder's graph at its largest
	Output       int64 // logits
	VisionWarmUp int64 // of the tower's graph at the image it warms up with; 0 without a tower
	Vision       int64 // at the image that is sent
}

// LlamaOptions is one request to llama.cpp.
type LlamaOptions struct {
	Width, Height int // of the image as given, in pixels; 0 for text alone
	PromptTokens  int // of text
	DecodeTokens  int
}

// llamaTokens are the least and the most tokens that llama.cpp makes of an image (clip.cpp).
const llamaLeastTokens, llamaMostTokens = 8, 4096

// LlamaCPP is the memory behaviour of llama.cpp: nothing like that of PyTorch. Its graphs are planned ahead, so that
// all tensors lie in a few buffers taken while the model loads, the cache for the whole context at once. A request adds
// the image and its embeddings, and the tower's buffer makes room for a larger one where the image exceeds the one it
// warmed up with; prefill and decode steps allocate nothing on the device. Weights are not included, nor small vectors
// on the host.
func LlamaCPP(model profile.Model, b LlamaBuffers, o LlamaOptions) (*trace.Trace, error) {
	switch {
	case b.KVCache <= 0 || b.Compute <= 0 || b.Output <= 0:
		return nil, fmt.Errorf("buffers of %+v: the cache, the compute buffer and the output must be above zero", b)
	case o.Width > 0 && (b.VisionWarmUp <= 0 || b.Vision <= 0):
		return nil, fmt.Errorf("buffers of %+v: an image needs the tower's", b)
	case o.PromptTokens < 0 || o.DecodeTokens < 0 || o.PromptTokens == 0 && o.Width == 0:
		return nil, fmt.Errorf("a prompt of %d tokens without an image: want at least one of either", o.PromptTokens)
	}
	o2 := Options{Device: CPU}
	o2.setDefaults()
	p := newProgram(fmt.Sprintf("llama.cpp %s %dx%d %d+%d", model.Name, o.Width, o.Height, o.PromptTokens, o.DecodeTokens),
		&model, o2)
	p.module = "llama.cpp"
	p.events.Mark("load")
	buffers := []block{
		p.keep(trace.KVCache, "kv_cache", b.KVCache),
		p.alloc("compute", b.Compute),
		p.keep(trace.Pinned, "output", b.Output),
	}
	var tower block
	if b.VisionWarmUp > 0 {
		tower = p.keep(trace.VisionFeatures, "vision", b.VisionWarmUp)
	}
	var embeddings []block
	if o.Width > 0 {
		var err error
		if embeddings, tower, err = p.llamaImage(b, o, tower); err != nil {
			return nil, err
		}
	}
	p.events.Mark("prefill")
	p.free(embeddings...)
	for range o.DecodeTokens {
		p.events.Mark("decode")
	}
	if b.VisionWarmUp > 0 {
		p.free(tower)
	}
	p.free(reversed(buffers)...)
	return p.events.Trace(), nil
}

// llamaImage encodes the image: its bytes, its pixels in fp32 after resizing, and an embedding per token that carries
// the features of every deepstack level beside the text's width.
func (p *program) llamaImage(b LlamaBuffers, o LlamaOptions, tower block) (embeddings []block, grown block, err error) {
	v := &p.model.Vision
	limited := *p.model
	area := v.PatchSize * v.SpatialMergeSize * v.PatchSize * v.SpatialMergeSize
	limited.Preprocess.MinPixels, limited.Preprocess.MaxPixels = llamaLeastTokens*area, llamaMostTokens*area
	grid, err := limited.ImageGrid(o.Width, o.Height)
	if err != nil {
		return nil, tower, err
	}
	p.events.Mark("vision")
	bitmap := p.alloc("bitmap", int64(v.InChannels*o.Width*o.Height))
	pixels := p.keep(trace.VisionFeatures, "pixels", 4*int64(v.InChannels*grid.Width*grid.Height))
	if b.Vision > b.VisionWarmUp { // the old buffer goes before the new one comes
		p.free(tower)
		tower = p.keep(trace.VisionFeatures, "vision", b.Vision)
	}
	width := int64(p.model.Text.HiddenSize) * int64(1+len(v.DeepstackLayers))
	out := p.keep(trace.VisionFeatures, "embeddings", 4*int64(grid.Tokens)*width)
	p.free(pixels, bitmap)
	return []block{out}, tower, nil
}
