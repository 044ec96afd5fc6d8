package engine

import (
	"slices"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
)

// Saving is a setting that an engine offers and that spares memory at a cost.
type Saving string

// The savings, by what they cost: the first three next to nothing, the fourth seconds an image, the fifth answers.
const (
	SmallBatches  Saving = "smaller batches"   // fewer tokens of a prompt are computed at once
	SmallTower    Saving = "tower in q8_0"     // matrices of the tower in 8.5 bits
	SmallCache    Saving = "cache in q8_0"     // keys and values in 8.5 bits
	TowerOnHost   Saving = "tower on the host" // images are encoded by the processor
	SmallestCache Saving = "cache in q4_0"     // keys and values in 4.5 bits
)

// The ways to leave a part of the decoder to the processor, which are no single settings.
const (
	ExpertsAway Saving = "experts on the host"
	LayersAway  Saving = "layers on the host"
)

// Word says what became of a saving.
type Word string

// The words for a saving that was considered.
const (
	Taken      Word = "taken"
	NotNeeded  Word = "not needed"       // all fits without it
	NotFaster  Word = "gains too little" // another way to fit is as fast, or costs less
	NoTower    Word = "no tower"         // the model has none, or one whose files come in 16 bits alone
	NoExperts  Word = "no experts"
	NoCard     Word = "no card"
	NotServed  Word = "not served"  // flash attention has no kernel for the heads and such a cache
	NotOffered Word = "not offered" // the engine has no such setting
)

// smallBatch is a micro-batch of half the usual tokens: the compute buffer shrinks nearly as much.
const smallBatch = llamaUBatch / 2

// CacheType is the type that a saving gives keys and values, "" for one that leaves them.
func (s Saving) CacheType() string {
	return map[Saving]string{SmallCache: "q8_0", SmallestCache: "q4_0"}[s]
}

// cheapSavings cost next to nothing. What an image or an answer suffers from comes after these.
var cheapSavings = []Saving{SmallBatches, SmallTower, SmallCache}

// Cheap are the engine's savings that cost next to nothing, in the order in which they are taken.
func (e *Engine) Cheap() []Saving { return e.among(cheapSavings) }

// Dear are those that cost seconds an image or quality.
func (e *Engine) Dear() []Saving { return e.among([]Saving{TowerOnHost, SmallestCache}) }

func (e *Engine) among(list []Saving) []Saving {
	return slices.DeleteFunc(slices.Clone(list), func(s Saving) bool { return !slices.Contains(e.Savings, s) })
}

// Spare puts a saving into options, or says why it cannot be had.
func (e *Engine) Spare(s Saving, m *profile.Model, o *Options) Word {
	tower := m.Vision.Depth > 0 && m.Vision.Kind == "" && (o.Image == nil || *o.Image != Image{})
	switch {
	case !slices.Contains(e.Savings, s):
		return NotOffered
	case s == SmallBatches:
		if o.UBatch = smallBatch; !e.Pooled { // one size for both
			o.Batch = smallBatch
		}
	case s == SmallTower && !tower, s == TowerOnHost && !tower:
		return NoTower
	case s == SmallTower:
		o.ProjectorQuant = "q8_0"
	case s == TowerOnHost && o.Device != "gpu":
		return NoCard
	case s == TowerOnHost:
		o.Llama.NoTower = true
	case s == ExpertsAway && ExpertLayers(m) == 0:
		return NoExperts
	case s == ExpertsAway && o.Device != "gpu":
		return NoCard
	case s == ExpertsAway: // how many layers' is another setting
	default:
		kind := s.CacheType()
		if !holdsCache(m, o, kind) {
			return NotServed
		}
		o.KVType = kind
	}
	return Taken
}

// holdsCache reports whether a cache of a quantised type runs: its rows are whole blocks, and flash attention is served
// where the layers lie.
func holdsCache(m *profile.Model, o *Options, kind string) bool {
	t, known := ggml.TypeByName(kind)
	keys, values := cacheHeads(&m.Text)
	if !known || keys%t.Block != 0 || values%t.Block != 0 || o.FlashAttention == "off" {
		return false
	}
	llama := o.Llama
	if o.GPU != nil && llama.Backend == "" && slices.Contains(LlamaBackends, o.GPU.Backend) {
		llama.Backend = o.GPU.Backend
	}
	return o.Device != "gpu" || flashServed(llama.backend(), &m.Text, t, t)
}

// ExpertLayers is how many of a model's layers have experts, 0 for none.
func ExpertLayers(m *profile.Model) int {
	n := 0
	for i := range m.Text.Layers {
		if m.Text.HasExperts(i) {
			n++
		}
	}
	return n
}
