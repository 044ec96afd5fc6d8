package engine

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Engine is everything that is known of one program that runs models. Each stands in a file of its own, and nothing
// outside that file and table asks for it by name: what differs is a field.
type Engine struct {
	Name    string // as flags and files spell it
	Product string // as its authors spell it
	Version string // whose rules are followed and whose spellings are written
	Page    string // its heading in docs/engines.md

	Least   int         // compute capability, 75 for 7.5, below which it does not run
	CPU     bool        // it also runs without a card
	Host    bool        // it runs without a card, whatever cards there are
	Weights WeightsForm // what it loads
	Ladder  []string    // weights to try where none are asked for, by falling quality; "" is the checkpoint as it is
	Shared  string      // weights that are split between card and host where none of the ladder fits the card
	Savings []Saving    // settings that spare memory at a cost
	Cache   CacheForm
	Offload OffloadForm
	States  bool    // its estimate knows how the states of linear attention lie in the cache's blocks
	Whole   bool    // it refuses to start where its cache does not hold a whole context
	Cards   bool    // it spreads a model over alike cards
	Share   float64 // share of the card that it takes by itself; 0: it reckons one
	Cold    bool    // what is written starts it without a warm-up image
	Context int     // tokens where none are asked for; 0: Estimate knows
	Adapts  bool    // left to itself, it fits context and layers to what it finds free
	Pooled  bool    // Options.Context is that of all sequences together
	Replay  Replay  // how package workload replays it
	// Allocator: it is what programs allocate with, so that its settings are of no model, and are chosen by replay.
	Allocator bool
	Effects   []string // flags of estimate that change its memory and not every engine's
	Requests  []string // keys of a request that it reckons, of those that not every request has
	Kernels   string   // the engine whose kernels it runs, by which speeds are known; "" its own

	// Variants are settings of its own to try, the first as it is without them; nil: none.
	Variants func(*profile.Model, Options) []Options

	// Split is what each side may hold of the weights, where so much of them may lie on the card, or how much the card
	// lacks for the least that must lie there; nil: it splits in none.
	Split func(m *profile.Model, o Options, card units.Bytes) (device, host, missing units.Bytes)

	Estimate  func(*profile.Model, Options) (*Memory, error) // nil: its memory is the program's
	Write     func(Settings) (*Bundle, error)                // nil: it reads no files
	Takes     Flags                                          // what Version takes; nil: the list of flags/NAME-VERSION.txt
	ReadLog   func(io.Reader) ([]Item, error)                // nil: what it logs is not read
	ReadRates func([]byte) Answered                          // nil: how fast it is stands not in its log
	// Spellings are the settings of its file and of its command line that decide memory, by their names there; nil:
	// neither is read.
	Spellings map[string][]spelling
	Parser    *argparse         // refuses names that Version does not have; nil: they are named, not refused
	Shorts    map[string]string // names of its command line that are another's, without dashes
	Switches  []string          // names of its command line that take no value
	Opposites map[string]string // names of switches by those that they take back
	Variables map[string]string // names of variables of the environment that differ from the arguments'
	// Modelfiles: its settings are ollama's, FROM and PARAMETER
	Modelfiles bool
	Verb       string // word of its command line after which the model is named
	// Unreckoned are names there that decide memory too and that the estimate does not know.
	Unreckoned []string
}

// WeightsForm is the kind of file that an engine loads.
type WeightsForm int

// The kinds of weights.
const (
	NoWeights  WeightsForm = iota
	Checkpoint             // a repository or folder of safetensors, in the type that its configuration states
	Exported               // a folder that its own tool makes of a checkpoint
	GGUF                   // a file for each precision
)

// CacheForm is how an engine sizes its KV cache.
type CacheForm int

// How a cache is sized.
const (
	Bounded CacheForm = iota // by the context
	Fills                    // by what the rest leaves of a share of the card
)

// OffloadForm is how an engine splits a model that does not fit the card.
type OffloadForm int

// How a model is split between card and host.
const (
	NoOffload OffloadForm = iota
	Layers                // so many layers on the card
	Bytes                 // weights up to a limit on each device
)

// Replay is how a call of the engine is replayed allocation by allocation.
type Replay int

// How calls are replayed.
const (
	NoReplay Replay = iota
	Tensors         // each tensor is allocated when it is made
	Arenas          // buffers are reserved once, by the engine's own graph
)

// All is every engine, in the order of lists. The first is what estimate takes by default.
func All() []*Engine {
	return []*Engine{&llamaCPP, &llamaServer, &ollama, &transformers, &vllm, &sglang, &openVINO, &onnxGenAI, &pytorch}
}

// Replays are the engines whose calls are replayed in one of these ways, without any in every way.
func Replays(ways ...Replay) []string {
	return Names(func(e *Engine) bool {
		return e.Replay != NoReplay && (len(ways) == 0 || slices.Contains(ways, e.Replay))
	})
}

// Reckons refuses a request with a key that the engine does not reckon.
func (e *Engine) Reckons(r *profile.Request) error {
	for _, key := range r.Keys() {
		if !slices.Contains(e.Requests, key) {
			has := Names(func(other *Engine) bool { return slices.Contains(other.Requests, key) })
			if len(has) == 0 {
				return fmt.Errorf("%s is not reckoned for %s, nor for another engine", key, e.Name)
			}
			return fmt.Errorf("%s is not reckoned for %s, only for %s", key, e.Name, strings.Join(has, ", "))
		}
	}
	return nil
}

// Names are the engines that have what has asks for.
func Names(has func(*Engine) bool) []string {
	var names []string
	for _, e := range All() {
		if has(e) {
			names = append(names, e.Name)
		}
	}
	return names
}

// Estimates, Writes, Logs and Allocates report what an engine can be asked for.
func (e *Engine) Estimates() bool { return e.Estimate != nil }
func (e *Engine) Writes() bool    { return e.Write != nil }
func (e *Engine) Logs() bool      { return e.ReadLog != nil && e.Write != nil }
func (e *Engine) Allocates() bool { return e.Allocator }

// KernelsOf is the engine whose kernels the engine of a name runs, by which rates are fitted.
func KernelsOf(name string) string {
	for _, e := range All() {
		if e.Name == name && e.Kernels != "" {
			return e.Kernels
		}
	}
	return name
}

// Builds reports whether its builds are told apart.
func (e *Engine) Builds() bool { return slices.Contains(e.Effects, "build") && !e.Modelfiles }

// Splits reports whether whole layers are shared out over cards as its user says.
func (e *Engine) Splits() bool { return slices.Contains(e.Effects, "tensor-split") && !e.Modelfiles }

// Spelled is product and version, as written files name them.
func (e *Engine) Spelled() string { return e.Product + " " + e.Version }

// even are the alike cards, from the first on, of which none has less than nine tenths of what the first has free: a
// server takes as much of each as of the fullest, so that a filled one is left out.
func even(h *profile.Hardware) (n int) {
	least := h.GPUs[0].Room() / 10 * 9
	for i := range h.GPUs {
		g := &h.GPUs[i]
		if g.Name != h.GPUs[0].Name || g.MemoryBytes != h.GPUs[0].MemoryBytes || g.Room() < least {
			break
		}
		n++
	}
	return n
}

// Spread is how many of a machine's alike cards the engine spreads a decoder over: a power of two that divides its
// heads.
func (e *Engine) Spread(h *profile.Hardware, m *profile.Model) int {
	return Served{}.Over(e, h, m).TensorParallel
}

// Over completes how a server is laid out with the even cards of a machine that stages and copies leave: a layer is
// shared by as many of them as divide what it has, a power of two.
func (s Served) Over(e *Engine, h *profile.Hardware, m *profile.Model) Served {
	if s.TensorParallel > 0 || !e.Cards || len(h.GPUs) == 0 {
		return s
	}
	left := even(h) / max(s.PipelineParallel, 1) / max(s.DataParallel, 1)
	for s.TensorParallel = 1; 2*s.TensorParallel <= left; s.TensorParallel *= 2 {
		if next := (Served{TensorParallel: 2 * s.TensorParallel}); next.undivided(m) != "" {
			break
		}
	}
	return s
}

// Deeper are layouts in stages that use more of a machine's alike cards than sharing every layer does, by their number;
// none where the user laid the model out.
func (s Served) Deeper(e *Engine, h *profile.Hardware, m *profile.Model) (list []Served) {
	if !e.Cards || len(h.GPUs) == 0 || s.TensorParallel+s.PipelineParallel+s.DataParallel > 0 {
		return nil
	}
	most := s.Over(e, h, m).Cards()
	for stages := 2; stages <= even(h); stages++ {
		s.PipelineParallel = stages
		if at := s.Over(e, h, m); at.Cards() > most {
			list, most = append(list, at), at.Cards()
		}
	}
	return list
}

// Lookup is the engine of a name among those that have what has asks for; what is the option it was given with.
func Lookup(what, name string, has func(*Engine) bool) (*Engine, error) {
	for _, e := range All() {
		if e.Name == name && has(e) {
			return e, nil
		}
	}
	return nil, fmt.Errorf("unknown %s %q: want one of %s", what, name, strings.Join(Names(has), ", "))
}

// Anywhere is the engine to fall back on: the first that files are written for and that runs without a card.
func Anywhere() *Engine {
	for _, e := range All() {
		if e.Writes() && e.Estimates() && e.CPU && e.Offload == Layers {
			return e
		}
	}
	return nil
}
