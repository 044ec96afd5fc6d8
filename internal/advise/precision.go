package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Precision is one way to hold the weights. The vision tower stays in 16 bits in all of them, as engines keep it.
type Precision struct {
	Name        string
	LayerBytes  units.Bytes // one decoder layer
	FixedBytes  units.Bytes // embeddings, output head and final norm
	VisionBytes units.Bytes // tower and mergers
	Why         string
}

// precisions are the formats by falling quality: bytes of a block of so many weights. The block formats are ggml's:
// q8_0, q5_0 and q4_0 hold 32 weights and one fp16 scale, q6_k holds 256 with sixteen 8-bit scales and an fp16 one.
var precisions = []struct {
	name           string
	bytes, weights int64
}{{"fp16", 2, 1}, {"q8_0", 34, 32}, {"q6_k", 210, 256}, {"q5_0", 22, 32}, {"q4_0", 18, 32}}

// PrecisionNames lists the formats by falling quality.
func PrecisionNames() []string {
	var names []string
	for _, p := range precisions {
		names = append(names, p.name)
	}
	return names
}

// Precisions sizes a model in every format, by falling quality.
func Precisions(m profile.Model) []Precision {
	count := m.Parameters()
	var list []Precision
	for _, p := range precisions {
		size := func(n int64) units.Bytes { return units.Bytes((n*p.bytes + p.weights - 1) / p.weights) }
		list = append(list, Precision{
			Name:        p.name,
			LayerBytes:  size(count.Layers / int64(m.Text.Layers)),
			FixedBytes:  size(count.Embed + count.LMHead),
			VisionBytes: units.Bytes(2 * (count.VisionCore + count.Merger + count.Deepstack)),
			Why: fmt.Sprintf("%.2f bits a weight for %s M of text, 16 for %s M of vision", 8*float64(p.bytes)/float64(p.weights),
				units.Grouped((count.Embed+count.LMHead+count.Layers)/1e6),
				units.Grouped((count.VisionCore+count.Merger+count.Deepstack)/1e6)),
		})
	}
	return list
}
