package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Draft is a smaller model that a server lets guess tokens, which the model itself then checks at once (--model-draft).
type Draft struct {
	Model      *profile.Model
	Quant      string // "" the file's
	KVType     string // "" f16, whatever the model's own cache is of
	Files      *Files
	HostLayers int // of the draft, the head counting as one

	fits   bool      // it is measured while the model is fitted
	shares []float64 // of the cards, where it is measured so
}

// draftTokens is what is guessed at once where nothing else is said (common/common.h of v0.5.0, n_max).
const draftTokens = 3

// mostVocabularies is by how much the vocabularies of a model and its draft may differ (common/speculative.cpp,
// SPEC_VOCAB_MAX_SIZE_DIFFERENCE).
const mostVocabularies = 128

// guessed is how many tokens each way of guessing without a head of the model's own hands over at most: a draft model,
// and repetitions of what was said (common_speculative_n_max of v0.5.0). Ways that need heads are not among them.
var guessed = map[string]int{"none": 0, "draft-simple": draftTokens, "ngram-simple": 48, "ngram-map-k": 48,
	"ngram-map-k4v": 48, "ngram-mod": 64, "ngram-cache": 8, mtpHeads: draftTokens}

// mtpHeads is guessing by heads of the model's own, blocks behind its layers (multi-token prediction).
const mtpHeads = "draft-mtp"

// predicts reports whether heads of the model's own are loaded and guess.
func (l *LlamaOptions) predicts() bool { return slices.Contains(l.Speculation, mtpHeads) }

// SpeculationTypes are the ways of guessing whose memory is known here.
func SpeculationTypes() []string {
	var names []string
	for name := range guessed {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// guesses is how many tokens of a slot are checked at once at most, beside the one that is surely the next.
func (l *LlamaOptions) guesses() int {
	most := 0
	for _, kind := range l.Speculation {
		n := guessed[kind]
		if kind == "draft-simple" || kind == mtpHeads {
			n = l.draftMost()
		}
		most = max(most, n)
	}
	if l.Draft != nil && len(l.Speculation) == 0 {
		most = l.draftMost()
	}
	return most
}

func (l *LlamaOptions) draftMost() int {
	if l.DraftMost == nil {
		return draftTokens
	}
	return *l.DraftMost
}

// checkDraft refuses ways of guessing that are not known, and a draft where builds lay it out otherwise.
func (l *LlamaOptions) checkDraft() error {
	for _, kind := range l.Speculation {
		if _, known := guessed[kind]; !known {
			return fmt.Errorf("speculation %q: %s; known are %s", kind, heads(kind), strings.Join(SpeculationTypes(), ", "))
		}
	}
	if n := l.draftMost(); n < 0 || n > 1024 {
		return fmt.Errorf("draft tokens %d: want 0 to 1024", n)
	}
	if rules, err := buildRules(l.Build); l.predicts() && err == nil && l.Build != "" && rules[0].wholeBatch {
		return fmt.Errorf("build %s: how builds before June 2026 compute heads of a model's own is not modelled", l.Build)
	} else if l.Draft != nil && err == nil && l.Build != "" && rules[0].wholeBatch {
		return fmt.Errorf("build %s: how builds before June 2026 lay out a draft model is not modelled", l.Build)
	}
	return nil
}

// heads says of a way of guessing that is not known here what it is. Networks that read hidden states of the model they
// guess for are files of their own (eagle3.cpp and dflash.cpp of v0.5.0's src/models), and which of its layers they
// read stands in them.
func heads(kind string) string {
	if slices.Contains([]string{"draft-eagle3", "draft-dflash", "draft-dspark"}, kind) {
		return "llama.cpp keeps hidden states of the model's layers for a network of such a file, and what both take is " +
			"not modelled"
	}
	return "llama.cpp has no such way"
}

// drafted adds what a draft takes: weights, cache, buffers and logits of a context of its own, which holds as many
// tokens as the model's, computes one row of logits a slot, and keeps its cache in f16 unless told.
func (mem *Memory) drafted(m *profile.Model, c *llamaContext, o Options) error {
	d := o.Llama.Draft
	if d == nil {
		return nil
	}
	if v, w := m.Text.VocabSize, d.Model.Text.VocabSize; max(v-w, w-v) > mostVocabularies {
		return fmt.Errorf("draft model %s: a vocabulary of %d tokens, %s has %d: llama.cpp refuses more than %d between them",
			d.Model.Name, w, m.Name, v, mostVocabularies)
	}
	at := o
	at.Quant, at.KVType, at.Files, at.HostLayers, at.Image = d.Quant, d.KVType, d.Files, d.HostLayers, &Image{}
	at.Context, at.Outputs = int(c.cells*c.streams), int(c.sequences)
	at.serves, at.promptCache, at.Llama.LayersLeft = false, false, false
	at.Llama.Overrides, at.Llama.Fit, at.Llama.Draft, at.Llama.Speculation = nil, nil, nil, nil
	if d.fits { // the model's trial shares are not the draft's (add_extra_memory of v0.5.0's common/fit.cpp)
		at.Llama.Shares = d.shares
	}
	part, err := estimateLlama(d.Model, at)
	if err != nil {
		return fmt.Errorf("draft model %s: %w", d.Model.Name, err)
	}
	for _, i := range part.Items {
		if !slices.Contains([]string{Weights, RepackedWeights, KVCache, Compute, Output}, i.Name) {
			continue // the card's context is the model's
		}
		i.Why = "of the draft " + d.Model.Name + ": " + i.Why
		mem.Items = append(mem.Items, i)
	}
	for i := range mem.Own {
		if own := &mem.Own[i]; own.Name == Process && i < len(part.Own) {
			tokens := part.Own[i].Bytes - llamaHeap
			own.Bytes, own.Low, own.High = own.Bytes+tokens, own.Low+tokens/2, own.High+2*tokens
		}
	}
	return nil
}

// How far the buffer of the heads' context may lie from that of a layer of attention with the model's head behind it
// and the hidden states that it is handed, of which it is built here: to cover 20 loads of b11549, of which 16 are
// equal and 4 lie 2.4 % below.
const (
	mtpLeast = 0.9
	mtpMost  = 1.1
)

// predicted adds what heads of a model's own take: a second context over as many cells, whose cache is of the heads'
// blocks alone, in f16, with a graph and logits of its own. Their weights are the file's last blocks. The model's graph
// hands hidden states over, and keeps states that guesses can be taken back to.
func (mem *Memory) predicted(m *profile.Model, r recipe, o Options) error {
	if !o.Llama.predicts() {
		return nil
	}
	heads := m.Text.PredictLayers
	if heads == 0 {
		return fmt.Errorf("speculation draft-mtp: %s has no heads of multi-token prediction; a file that holds them does",
			m.Name)
	}
	if m.Text.Variant == nil || m.Text.Variant.Linear == nil {
		return fmt.Errorf("speculation draft-mtp: how llama.cpp computes heads of multi-token prediction of %s is not "+
			"known; known are Qwen3.5's and its kin's", m.Name)
	}
	width := units.Bytes(4 * m.Text.HiddenSize)
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == Output { // the hidden states of a whole batch, once there is one
			it.High += width * units.Bytes(orDefault(o.Batch, llamaBatch))
			it.Why += "; the heads read a batch's hidden states from it"
		}
	}
	one, at := *m, o
	variant := *m.Text.Variant
	variant.Linear, variant.LayerTypes, variant.FullEvery = nil, nil, 0
	one.Text.Variant, one.Text.Layers, one.Text.PredictLayers = &variant, heads, 0
	at.KVType, at.Files, at.Llama.Overrides, at.Llama.Speculation, at.promptCache = "", nil, nil, nil, false
	at.Outputs, at.HostLayers = int(max(1, o.Sequences)), min(o.HostLayers, 1)*(heads+1)
	part := &Memory{}
	c, place, err := part.llamaDecoder(&one, r, at)
	if err != nil {
		return fmt.Errorf("heads of %s: %w", m.Name, err)
	}
	for _, i := range part.Items {
		if i.Name == Compute {
			i.Bytes += width * units.Bytes(min(c.ubatch, c.cells*c.streams))
			i.Low, i.High, i.Source = scaled(i.Bytes, mtpLeast), scaled(i.Bytes, mtpMost), Assumed
		}
		if slices.Contains([]string{KVCache, Compute, Output}, i.Name) {
			i.Why = "of the model's own heads: " + i.Why
			mem.Items = append(mem.Items, i)
		}
		if i.Name == KVCache && (o.Files == nil || len(o.Files.Tensors) == 0) {
			mem.headWeights(place, i.Where, &one)
		}
	}
	return nil
}

// headWeights adds the weights of heads whose file is not here: of each a layer with attention, and a projection of the
// hidden state beside the token's embedding to the model's width, in the type of its first matrix. That a file's
// mixture of types treats them otherwise, or that it gives them a head of their own, is not known: a tenth less to half
// more.
func (mem *Memory) headWeights(place *Placement, where string, one *profile.Model) {
	d, wide, sum := int64(one.Text.HiddenSize), units.Bytes(0), units.Bytes(0)
	for _, t := range place.Tensors {
		if t.Layer < 0 {
			continue
		}
		sum += t.Bytes
		if len(t.Shape) == 2 && t.Shape[0] == d && wide == 0 {
			wide = t.Bytes * units.Bytes(2*d) / units.Bytes(t.Shape[1])
		}
	}
	sum += wide * units.Bytes(one.Text.Layers)
	mem.add(Weights, where, sum, scaled(sum, 0.9), scaled(sum, 1.5), Assumed, "of the model's own heads: %d layers and "+
		"their projections, as the file is not here", one.Text.Layers)
}

// draftState is keys and values of a draft's tokens as a server keeps them with a prompt.
func (c llamaContext) draftState(o Options) units.Bytes {
	d := o.Llama.Draft
	if d == nil {
		return 0
	}
	kType, vType, err := cacheTypes(d.KVType)
	if err != nil {
		return 0 // drafted has said so
	}
	of := c
	of.kType, of.vType = kType, vType
	all, _ := of.stateBytes(&d.Model.Text)
	return all
}
