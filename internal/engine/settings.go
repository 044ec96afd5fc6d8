package engine

import (
	"fmt"
	"iter"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Settings are the limits that an engine's files are written from, whoever decided them. Zero values are left to the
// engine.
type Settings struct {
	Model        *profile.Model
	Name         string       // what requests call it, "" for the model's name
	Path         string       // what the engine loads: a repository or folder; for llama.cpp and ollama a GGUF file
	Projector    string       // llama.cpp and ollama: the mmproj GGUF
	GPU          *profile.GPU // nil: on the CPU
	Served                    // vLLM, SGLang: over how many alike cards, and adapters
	Context      int          // tokens of one sequence
	Sequences    int          // at once
	Batch        int          // tokens of prompt computed at once
	Image        Image        // the largest that will be sent; zero: images are left to the engine
	Quant        string       // weights: a data type of the PyTorch engines; GGUF files bring their own
	KVType       string
	KVBytes      units.Bytes // vLLM: the KV cache, instead of a share of the card
	Share        float64     // vLLM, SGLang: share of the card for weights and cache (vLLM: for everything)
	GPULayers    int         // llama.cpp, ollama: layers on the card; all where FullOffload
	FullOff      bool        // every layer on the card
	ExpertLayers int         // llama.cpp: layers whose experts stay on the host
	TowerOnHost  bool        // llama.cpp: images are encoded there
	Device       units.Bytes // transformers: what the card may hold of the model
	Host         units.Bytes // transformers: what the host may hold of the model
	Images       int         // vLLM: images a prompt, 0 without limit
	Eager        bool        // vLLM, SGLang: no CUDA graphs
	Threads      int         // on the CPU
	ThreadsWhy   string      // which of the machine's bounds Threads is
	Flash        string      // auto, on, off
	Build        string      // llama.cpp: which, "" for the one whose rules are followed
	Cards        int         // llama.cpp: that share the layers, 0 on a machine with one
	Shares       []float64   // llama.cpp: how many layers each of them gets, nil: as many
	Devices      []string    // llama.cpp: their names there, in the order in which layers go to them
	AllCards     bool        // llama.cpp: they are all of the machine's, in its order
	LoadMode     string      // llama.cpp: how weights are read, "" its own
	AllocConf    string      // PYTORCH_ALLOC_CONF
	spelled      string      // the engine and its version, for the head of its files
	HeadroomMB   int         // llama.cpp: MiB to leave free on the card when it fits by itself; ollama: of every card
}

// File is one file of a bundle.
type File struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// Bundle is the files that one engine reads, how to start it with them, and what else its user must know.
type Bundle struct {
	Engine  string   `json:"engine"`
	Version string   `json:"version"` // whose spellings are used
	Files   []File   `json:"files"`
	Use     []string `json:"use"` // commands
	Notes   []string `json:"notes,omitempty"`

	settings  lines // all that the files say, each held to what the version takes
	arguments lines // those that a command line names, in its order; none where the engine reads files alone
}

// Arguments are the settings as a command line gives them: the name without dashes, and all of it as a shell reads it.
func (b *Bundle) Arguments() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, s := range b.arguments {
			if !yield(s.key, s.argument()) {
				return
			}
		}
	}
}

// Write spells the settings for the engine of a name. A *Refusal means that the engine cannot run on the card, and
// nothing is written.
func Write(name string, s Settings) (*Bundle, error) {
	e, err := Lookup("target", name, (*Engine).Writes)
	if err != nil {
		return nil, err
	}
	return e.spell(s)
}

// spell writes the settings, each held to what the version takes.
func (e *Engine) spell(s Settings) (b *Bundle, err error) {
	if s.Model == nil {
		return nil, fmt.Errorf("settings for %s without a model", e.Name)
	}
	if e.Host {
		s.GPU = nil
	}
	switch {
	case s.GPU != nil:
		err = e.Refuse(s.GPU)
	case !e.CPU:
		err = &Refusal{e.Name, "no card is given and its CPU backend is not modelled",
			"--for " + Anywhere().Name + " runs on the CPU"}
	}
	if err != nil {
		return nil, err
	}
	if s.Name == "" {
		s.Name = s.Model.Name
	}
	for _, text := range []string{s.Name, s.Path, s.Projector, s.Quant, s.KVType, s.AllocConf} {
		if strings.ContainsAny(text, "\n\r\x00") {
			return nil, fmt.Errorf("settings for %s: %q holds a line break", e.Name, text)
		}
	}
	if s.spelled = e.Spelled(); s.Build != "" && e.Builds() {
		s.spelled = e.Product + " " + s.Build
	}
	if b, err = e.Write(s); err != nil {
		return nil, err
	}
	for _, x := range b.settings {
		if err := e.refuse(x); err != nil {
			return nil, err
		}
	}
	if b.Engine = e.Name; b.Version == "" {
		b.Version = s.spelled
	}
	if s.GPU != nil {
		b.Notes = append(b.Notes, PascalFacts(s.GPU)...)
		b.Notes = append(b.Notes, backendFacts(s.GPU)...)
	}
	return b, nil
}

// threadsNote says why so many threads where the file that names them is JSON, which has no comments.
func (s *Settings) threadsNote() []string {
	if s.Threads == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d threads: %s", s.Threads, s.ThreadsWhy)}
}

// setting is one key of a file, with the reason for its value.
type setting struct {
	key   string
	value any // string, int, bool, float64, units.Bytes or []setting
	why   string
}

// lines collects settings and leaves out those without a value.
type lines []setting

func (l *lines) add(key string, value any, why string, args ...any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case int:
		if v == 0 {
			return
		}
	case float64:
		if v == 0 {
			return
		}
	case units.Bytes:
		if v == 0 {
			return
		}
	}
	*l = append(*l, setting{key, value, fmt.Sprintf(why, args...)})
}

// maxPixels is the area that images are limited to, after the model's own rounding.
func (s *Settings) maxPixels() (int, error) {
	if s.Image == (Image{}) {
		return 0, nil
	}
	g, err := s.Model.ImageGrid(s.Image.Width, s.Image.Height)
	if err != nil {
		return 0, err
	}
	return g.Width * g.Height, nil
}

// imageSize is the pixel limits as the processors of Qwen3-VL take them: areas.
func (s *Settings) imageSize(pixels int) []setting {
	return []setting{{"shortest_edge", min(s.Model.Preprocess.MinPixels, pixels), ""}, {"longest_edge", pixels, ""}}
}

// videoSize is the limits of a video, whose area is that of all frames together: no more tokens than an image of the
// limit, of two frames each.
func (s *Settings) videoSize(pixels int) []setting {
	frames := s.Model.Vision.TemporalPatchSize
	return []setting{{"size", []setting{{"shortest_edge", min(s.Model.Preprocess.VideoMinPixels, frames*pixels), ""},
		{"longest_edge", frames * pixels, ""}}, ""}}
}

// torchDType is the data type that the checkpoints run in on a card, or without one: bfloat16 needs compute capability
// 8.0.
func torchDType(g *profile.GPU) (dtype, why string) {
	if g != nil {
		if major, _, err := g.Capability(); err == nil && major < 8 {
			return "float16", "bfloat16 needs compute capability 8.0, this card has " + g.ComputeCapability
		}
	}
	return "bfloat16", "the type of the checkpoint"
}

// major is the first number of the card's compute capability, 0 without a card.
func (s *Settings) major() int {
	if s.GPU == nil {
		return 0
	}
	major, _, err := s.GPU.Capability()
	if err != nil {
		return 0
	}
	return major
}

// path is what to load: the given path, or the repository of the model.
func (s *Settings) path() string {
	if s.Path != "" {
		return s.Path
	}
	return s.Model.Repository
}
