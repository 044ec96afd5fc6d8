package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// ollamaVersion is the release whose rules are followed; it pins a llama.cpp of its own.
const ollamaVersion = "0.32.15"

// What is assumed of the shares of a buffer: to cover graphs that differ between the llama.cpp that ollama pins and the
// release followed here. No buffer of ollama 0.32 was measured.
const (
	ollamaBufferLeast = 0.9
	ollamaBufferMost  = 1.2
)

// ollamaImageTokens is the least of an image: --image-min-tokens of the Qwen-VL family (llm/llama_server.go).
const ollamaImageTokens = 1024

// Ollama runs on compute capability 5.0 upwards.
var ollama = Engine{
	Name: "ollama", Product: "ollama", Version: ollamaVersion, Page: "Ollama 0.32",
	Least: 50, CPU: true, Weights: GGUF, Ladder: llamaLadder, Offload: Layers,
	Shared: "q4_k_m", Savings: []Saving{SmallBatches, SmallTower, SmallCache, SmallestCache},
	Requests: []string{profile.KeySizes, profile.KeyKept, profile.KeyChunk},
	Effects: slices.DeleteFunc(slices.Clone(llamaFlags), func(f string) bool {
		return slices.Contains(ollamaLacks, f)
	}),
	Estimate: estimateOllama, Write: writeOllama, ReadLog: ReadOllamaLog, ReadRates: readOllamaRates,
	Spellings: ollamaSpellings(), Modelfiles: true,
	Unreckoned: []string{"adapter", "draft", "main-gpu", "OLLAMA-SCHED-SPREAD", "num-parallel"},
}

// ollamaLacks are settings of llama.cpp that neither a Modelfile nor a variable of the server reaches.
var ollamaLacks = []string{"kv-unified", "main-gpu", "override-tensor", "n-cpu-ffn", "no-kv-offload", "split-mode",
	"tensor-split", "no-repack", "mlock", "outputs"}

// estimateOllama follows ollama, which runs llama-server with settings of its own: 512 tokens at once, flash attention
// as supported, and at least 1,024 tokens an image.
func estimateOllama(m *profile.Model, o Options) (*Memory, error) {
	if o.Quant == "" {
		o.Quant = "q4_k_m" // what the library's default tags hold
	}
	o.Llama.Build = cmp.Or(o.Llama.Build, LlamaVersion) // the one that it pins is spanned below
	o.Batch, o.UBatch = orDefault(o.Batch, llamaUBatch), orDefault(o.UBatch, llamaUBatch)
	if _, _, err := cacheTypes(o.KVType); err != nil {
		return nil, fmt.Errorf("ollama runs llama.cpp: %w", err)
	}
	asked := o.Sequences
	o.Sequences = ollamaParallel(m, o.Sequences)
	o.Context = min(orDefault(o.Context, ollamaContext(o.GPU)), m.Text.MaxPositions) * o.Sequences
	if o.Image != nil && *o.Image != (Image{}) {
		grown := ollamaImage(m, *o.Image)
		o.Image = &grown
	}
	mem, err := estimateLlama(m, o)
	if err != nil {
		return nil, err
	}
	// Whether the llama-server that it pins computes all logits or those of its slots decides much of the buffer.
	o.Outputs = orDefault(o.Sequences, 1)
	least, err := estimateLlama(m, o)
	if err != nil {
		return nil, err
	}
	if asked > o.Sequences {
		mem.warn(OneAtATime, "ollama runs one request at a time of a model with images: %d wait in its queue", asked-1)
	}
	mem.Version = ollamaVersion + " with llama.cpp " + LlamaVersion
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == Compute || it.Name == Vision {
			it.Low, it.High, it.Source = scaled(least.Items[i].Low, ollamaBufferLeast),
				scaled(it.High, ollamaBufferMost), Assumed
			it.Why += "; ollama pins a llama.cpp of its own"
		}
	}
	return mem, nil
}

// ollamaContext is the context where none is set, by the memory of all cards together: its steps are a GiB below
// cards of 24 and 48 GiB, which report a little less (server/routes.go).
func ollamaContext(g *profile.GPU) int {
	switch {
	case g == nil || g.MemoryBytes < 23*units.GiB:
		return 4096
	case g.MemoryBytes < 47*units.GiB:
		return 32768
	}
	return 262144
}

// ollamaParallel is the requests that run at once: one, whatever is asked for, of the Qwen-VL family, for which the
// server lowers it with a warning (server/sched.go).
func ollamaParallel(m *profile.Model, asked int) int {
	if m.TextOnly() {
		return orDefault(asked, 1)
	}
	return 1
}

// ollamaImage enlarges an image to 1,024 tokens, which ollama asks of the Qwen-VL family.
func ollamaImage(m *profile.Model, i Image) Image {
	side := m.Vision.PatchSize * m.Vision.SpatialMergeSize
	area := float64(i.Width) * float64(i.Height)
	least := float64(ollamaImageTokens * side * side)
	if area <= 0 || area >= least {
		return i
	}
	f := math.Sqrt(least / area)
	return Image{int(math.Ceil(float64(i.Width) * f)), int(math.Ceil(float64(i.Height) * f))}
}

func writeOllama(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	path := s.Path
	if path == "" {
		path = s.Name + ".gguf"
	}
	var parameters, env lines
	parameters.add("num_ctx", s.Context, "tokens of one request")
	parameters.add("num_batch", s.Batch, "tokens computed at once")
	if s.GPU == nil {
		parameters = append(parameters, setting{"num_gpu", 0, "no card is given"})
	} else if !s.FullOff && s.GPULayers > 0 {
		parameters.add("num_gpu", s.GPULayers, "layers that fit the card")
	}
	parameters.add("num_thread", s.Threads, "%s", s.ThreadsWhy)
	env.add("OLLAMA_CONTEXT_LENGTH", s.Context, "for models without num_ctx of their own")
	env.add("OLLAMA_NUM_PARALLEL", ollamaParallel(s.Model, s.Sequences),
		"requests at once; the cache is num_ctx for each, and of a model with images the others wait")
	env.add("OLLAMA_MAX_LOADED_MODELS", 1, "a second model was not budgeted")
	if s.Flash != "off" {
		env.add("OLLAMA_FLASH_ATTENTION", 1, "without it scores take memory with the square of the context")
	}
	if s.KVType != "" {
		env.add("OLLAMA_KV_CACHE_TYPE", strings.ToLower(s.KVType), "needs flash attention unless f16")
	}
	env.add("OLLAMA_GPU_OVERHEAD", units.Bytes(s.HeadroomMB)*units.MiB, "bytes left free on every card")
	b := Bundle{settings: append(parameters, env...)}
	b.Files = []File{
		{"Modelfile", modelfileText(s.spelled, ollamaFile(path), ollamaFile(s.Projector), parameters)},
		{"ollama.env", envText(s.spelled, env)},
	}
	b.Use = []string{"set -a; . ./ollama.env; set +a; ollama serve", "ollama create " + shellWord(s.Name) +
		" -f Modelfile"}
	if pixels > 0 {
		b.Notes = append(b.Notes, fmt.Sprintf("ollama has no setting for the size of images: scale them to %d pixels "+
			"before sending; it enlarges those under 1,024 tokens", pixels))
	}
	return &b, nil
}

// ollamaFile marks a bare name as a file: without a folder it would be one of the library.
func ollamaFile(path string) string {
	if path == "" || strings.Contains(path, "/") {
		return path
	}
	return "./" + path
}

// ollamaSpellings are parameters of a Modelfile and variables of the server.
func ollamaSpellings() map[string][]spelling {
	m := plainly(map[string]string{"num-ctx": "ctx", "num-batch": "batch", "OLLAMA-KV-CACHE-TYPE": "kv-type"})
	m["num-gpu"] = []spelling{{"ngl", allLayers}}
	m["from"] = []spelling{{"model", ollamaModel}, {"quant", ollamaQuant}}
	m["projector"] = []spelling{{"mmproj", fileHere}, {"mmproj-quant", towerQuant}}
	m["use-mmap"] = []spelling{{"load-mode", func(v string) (string, error) {
		return map[string]string{"false": "none"}[v], nil
	}}}
	m["OLLAMA-FLASH-ATTENTION"] = []spelling{{"flash-attention", func(v string) (string, error) {
		on, err := strconv.ParseBool(v)
		return map[bool]string{true: "on", false: "off"}[on], err
	}}}
	nonzero := func(v string) (string, error) { return strings.TrimPrefix(v, "0"), nil }
	m["OLLAMA-NUM-PARALLEL"] = []spelling{{"parallel", nonzero}}
	m["OLLAMA-CONTEXT-LENGTH"] = []spelling{{"ctx", nonzero}}
	return m
}

// ollamaModel is what FROM names: a file that is here, or a model of the library, qwen3-vl:4b-instruct as qwen3-vl-4b.
func ollamaModel(from string) (string, error) {
	if here, _ := fileHere(from); here != "" || ollamaIsFile(from) {
		return here, nil
	}
	name, tag, _ := strings.Cut(from[strings.LastIndex(from, "/")+1:], ":")
	size, _, _ := strings.Cut(tag, "-")
	if size == "" || size == "latest" {
		return from, nil
	}
	return name + "-" + size, nil
}

func ollamaIsFile(from string) bool {
	return strings.HasSuffix(strings.ToLower(from), ".gguf") || strings.HasPrefix(from, ".") ||
		strings.HasPrefix(from, "/")
}

// ollamaQuant is the type of what FROM names: at the end of a file's name, or of a tag.
func ollamaQuant(from string) (string, error) {
	if ollamaIsFile(from) {
		return quantOf(from)
	}
	_, tag, _ := strings.Cut(from, ":")
	last := strings.ToLower(tag[strings.LastIndex(tag, "-")+1:])
	if _, err := recipeByName(last); err != nil || last == "" {
		return "", nil
	}
	return last, nil
}
