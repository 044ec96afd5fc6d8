package engine

import (
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Published is where a GGUF of a model can be had. The decoder's file is made of another by llama-quantize where
// QuantizedFrom names one: nobody is known to publish it.
type Published struct {
	Repository    string `json:"repository"`
	Decoder       string `json:"decoder"`
	Tower         string `json:"tower"`
	QuantizedFrom string `json:"quantized_from,omitempty"`
	// TowerRepository has the tower where Repository does not
	TowerRepository string `json:"tower_repository,omitempty"`
	Type            string `json:"type"` // as file names spell it
}

// Names as seen in the repositories of Qwen and unsloth, October 2025 to October 2026: the publisher's own files lack
// the hyphen of the model's name, and come in three types.
var (
	publishedSizes   = []string{"2B", "4B", "8B", "32B", "30B-A3B"}
	publishedTypes   = []string{"F16", "Q8_0", "Q4_K_M"}
	unslothTypes     = []string{"Q6_K"} // beside the publisher's own
	publishedFlavors = []string{"Instruct", "Thinking"}
)

// PublishedGGUF is where a model's GGUF in a type can be had, with its tower in another; false where no publisher is
// known.
func PublishedGGUF(m *profile.Model, quant, tower string) (Published, bool) {
	name, ours := strings.CutPrefix(m.Repository, "Qwen/Qwen3-VL-")
	at := strings.LastIndex(name, "-")
	if !ours || at < 0 || !slices.Contains(publishedSizes, name[:at]) || !slices.Contains(publishedFlavors, name[at+1:]) {
		return Published{}, false
	}
	kind := strings.ToUpper(quant)
	if kind == "FP16" {
		kind = "F16"
	}
	p := Published{Repository: m.Repository + "-GGUF", Decoder: "Qwen3VL-" + name + "-" + kind + ".gguf",
		Tower: "mmproj-Qwen3VL-" + name + "-" + strings.ToUpper(tower) + ".gguf", Type: kind}
	switch {
	case slices.Contains(publishedTypes, kind):
	case slices.Contains(unslothTypes, kind) && name[at+1:] == "Instruct":
		p.Repository, p.Decoder = "unsloth/Qwen3-VL-"+name+"-GGUF", "Qwen3-VL-"+name+"-"+kind+".gguf"
		if tower == "f16" {
			p.Tower = "mmproj-F16.gguf"
		} else {
			p.TowerRepository = m.Repository + "-GGUF"
		}
	default:
		p.QuantizedFrom = "Qwen3VL-" + name + "-F16.gguf"
	}
	return p, true
}

// FetchedTower is the tower's file that llama-server's -hf takes by itself, "" where the publisher's are not known: of
// those in the repository the one whose bits are nearest the decoder's (find_best_sibling in common/download.cpp of
// v0.5.0), so that every decoder but one in 16 bits comes with its tower in 8.
func (p *Published) FetchedTower() string {
	if p.TowerRepository != "" || p.Repository == "" || !strings.HasPrefix(p.Repository, "Qwen/") {
		return ""
	}
	base := strings.TrimSuffix(strings.TrimSuffix(p.Tower, "-F16.gguf"), "-Q8_0.gguf")
	if p.Type == "F16" {
		return base + "-F16.gguf"
	}
	return base + "-Q8_0.gguf"
}

// FileBytes is what the tensors of a model's GGUF files take: the decoder's in a quantisation, the tower's with
// matrices in another. Headers and the vocabulary, some 6 MiB, come on top. What an engine loads of a file differs: it
// may hold the embeddings twice, or map a part.
func FileBytes(m *profile.Model, quant, towerQuant string) (decoder, tower units.Bytes, err error) {
	r, err := recipeByName(quant)
	if err != nil {
		return 0, 0, err
	}
	return r.decoderBytes(&m.Text), projectorBytes(&m.Vision, towerQuant), nil
}
