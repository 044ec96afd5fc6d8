package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// llamaDecoders are the architectures whose graphs are built here, exactly or nearly.
var llamaDecoders = []string{"qwen3vl", "qwen3vlmoe", "qwen2", "qwen2vl", "qwen3", "qwen3moe", "llama", "gemma2",
	"gemma3",
	"deepseek2", "qwen35", "qwen35moe"}

// llamaRefuses is the refusal for a decoder whose graph is not built here, nil for one that is.
func llamaRefuses(m *profile.Model) error {
	v := m.Text.Variant
	if v == nil || slices.Contains(llamaDecoders, v.Architecture) {
		return nil
	}
	return &Refusal{"llama.cpp", fmt.Sprintf("its graph of %s is not modelled", v.Architecture),
		"estimate --engine transformers"}
}

// What is assumed of a tower whose graph is not built here. Of its weights: to cover small matrices that the converter
// keeps in f32, and tables that it leaves out. Of its buffer, which was not measured: from half, where the allocator
// uses tensors again, to twice, where scores are kept as well.
const (
	foreignWeightsLeast, foreignWeightsMost = 0.98, 1.02
	foreignBufferLeast, foreignBufferMost   = 0.5, 2
)

// foreignTower adds a tower that is not Qwen3-VL's: its weights module by module, matrices in the projector's type and
// the rest in f32, and its buffer by the tensors that a block of any tower holds: assumed, eight rows of its width
// and two of its MLP in f32 a patch, as many as attention and MLP keep at once. Without a size the image is 1024x1024,
// assumed as a common one, or what --image-max-tokens scales that to.
func (mem *Memory) foreignTower(m *profile.Model, o Options) error {
	image := Image{1024, 1024}
	if o.Image != nil {
		image = *o.Image
	}
	if image == (Image{}) {
		return nil
	}
	limited := *m
	qwen := m.Vision.Kind == profile.Qwen2Tower || m.Vision.Kind == profile.Qwen25Tower
	if most := o.Llama.ImageMost; most > 0 && qwen {
		side := m.Vision.PatchSize * m.Vision.SpatialMergeSize
		limited.Preprocess.MaxPixels = most * side * side
		limited.Preprocess.MinPixels = min(limited.Preprocess.MinPixels, limited.Preprocess.MaxPixels)
	}
	grid, err := limited.ImageGrid(image.Width, image.Height)
	if err != nil {
		return err
	}
	bytes := map[string]int64{"": 2, "f16": 2, "fp16": 2, "bf16": 2, "f32": 4,
		"fp32": 4}[strings.ToLower(o.ProjectorQuant)]
	if bytes == 0 {
		return fmt.Errorf("projector quantisation %q: want f32, f16 or bf16 for a %s tower", o.ProjectorQuant, m.Vision.Kind)
	}
	where := "host"
	if o.Device == "gpu" && !o.Llama.NoTower {
		where = (&Placement{Cards: o.Llama.used()}).where(0)
	}
	var size units.Bytes
	for _, x := range m.Modules() {
		switch {
		case !x.Vision():
		case x.Kind == profile.LinearModule || x.Kind == profile.Convolution:
			size += units.Bytes(x.Matrix()*bytes + 4*x.Bias)
		default:
			size += units.Bytes(4 * x.Elements())
		}
	}
	mem.add(VisionWeights, where, size, scaled(size, foreignWeightsLeast), scaled(size, foreignWeightsMost), Derived,
		"a %s tower and what joins it to the decoder, matrices in %d bits", m.Vision.Kind, 8*bytes)
	v := m.Vision
	block := units.Bytes(4 * int64(grid.Patches) * int64(8*v.HiddenSize+2*v.IntermediateSize))
	mem.add(Vision, where, block, scaled(block, foreignBufferLeast), scaled(block, foreignBufferMost), Assumed,
		"%d patches through a block of a %s tower, whose graph is not built here", grid.Patches, m.Vision.Kind)
	return nil
}
