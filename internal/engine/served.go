package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Served are settings of a server that lays a model out over alike cards, and of its adapters. Zero values are the
// engine's own.
type Served struct {
	TensorParallel   int  // cards that share every layer; all figures are of one card
	PipelineParallel int  // stages one behind another, each with a part of the layers
	DataParallel     int  // copies of the server; a mixture's experts are shared out over them in vLLM
	ExpertParallel   bool // vLLM: a card holds whole experts, and not a part of each
	ExpertCards      int  // SGLang: of the cards that share a layer, so many groups hold experts of their own
	LoRA             bool // vLLM: room for adapters
	LoRAs, LoRARank  int  // adapters of one batch, and the largest rank
}

// ServedFlags are the names that a person sets these by.
var ServedFlags = []string{"tensor-parallel", "pipeline-parallel", "data-parallel", "expert-parallel", "expert-cards",
	"enable-lora", "max-loras", "max-lora-rank"}

// Check refuses what the engine does not have, numbers that were given and mean nothing, and more than anybody has.
func (s Served) Check(e *Engine, given func(flag string) bool) error {
	values := []int{s.TensorParallel, s.PipelineParallel, s.DataParallel, 1, s.ExpertCards, 1, s.LoRAs, s.LoRARank}
	for i, flag := range ServedFlags {
		if !given(flag) {
			continue
		}
		if err := e.HasNoEffect(flag); err != nil {
			return err
		}
		if n := values[i]; n < 1 || n > 1024 {
			return fmt.Errorf("--%s %d: want 1 to 1024", flag, n)
		}
	}
	return nil
}

// CheckFor is Check for the engine of a name among those that have what has asks for; without a name none may be given.
func (s Served) CheckFor(name string, has func(*Engine) bool, given func(flag string) bool) error {
	if name == "" {
		if i := slices.IndexFunc(ServedFlags, given); i >= 0 {
			return fmt.Errorf("--%s is of an engine: it goes with --for", ServedFlags[i])
		}
		return nil
	}
	e, err := Lookup("--for", name, has)
	if err != nil {
		return err
	}
	return s.Check(e, given)
}

// Cards are those of all stages and copies.
func (s Served) Cards() int {
	return max(s.TensorParallel, 1) * max(s.PipelineParallel, 1) * max(s.DataParallel, 1)
}

// DataShare is how many of so many requests at once fall to each copy of the server.
func (s Served) DataShare(requests int) int {
	copies := max(s.DataParallel, 1)
	return (requests + copies - 1) / copies
}

// layout is the place of one card among those that hold a model: of one stage of a pipeline, the first of the cards
// that share a layer.
//
//	linear layers   columns: out/tensor, its bias with it; rows: in/tensor, the bias whole
//	keys, values    a head at least
//	embeddings      vocabulary, padded to 64 rows, / tensor; at the first stage, tied ones at the last as well, in
//	                vLLM a mixture's at every stage, with the head (Qwen3MoeForCausalLM)
//	experts         in/(tensor·copies) or out/(tensor·copies); whole ones: ⌈experts/(tensor·copies)⌉
//	norms, routers, positions, patches   whole
type layout struct {
	tensor, spread int // cards that share a layer, and its experts
	copies         int // of the server, whose experts are shared out
	whole          int // groups of cards that hold experts of their own, 1 where every card has a part of each
	stage, stages  int
	first, end     int // layers
	text           *profile.Text
	towers         bool // every stage builds the tower, and its positions are shared out
	everywhere     bool // every stage builds embeddings, the last norm and the head
	exact          bool // as the server's own classes were recorded
}

// alone is the layout of one card.
func alone(t *profile.Text) layout {
	return layout{tensor: 1, spread: 1, copies: 1, whole: 1, stages: 1, end: t.Layers, text: t, exact: true}
}

// single reports whether one card holds all.
func (l layout) single() bool { return l.tensor == 1 && l.spread == 1 && l.whole == 1 && l.stages == 1 }

// last reports whether the head is here.
func (l layout) last() bool { return l.stage == l.stages-1 }

// tower reports whether images are encoded here.
func (l layout) tower() bool { return l.stage == 0 || l.towers }

// cachedLayers are the layers of this stage that keep keys and values.
func (l layout) cachedLayers() (n int) {
	for i := l.first; i < l.end; i++ {
		if l.text.Keeps(i) {
			n++
		}
	}
	return n
}

// String says what a card has of the whole, "" where it has all.
func (l layout) String() (text string) {
	if l.tensor > 1 {
		text = fmt.Sprintf(", on each of %d cards", l.tensor)
	}
	if l.stages > 1 {
		text += fmt.Sprintf(", at stage %d of %d with layers %d to %d", l.stage+1, l.stages, l.first, l.end-1)
	}
	switch {
	case l.whole > 1:
		text += fmt.Sprintf(", whole experts in %d groups", l.whole)
	case l.spread > l.tensor:
		text += fmt.Sprintf(", a part of each expert on each of %d", l.spread)
	}
	return text
}

// layerOf is the number of the layer that a module's name says.
func layerOf(name string) (layer int, found bool) {
	_, rest, _ := strings.Cut(name, ".layers.")
	number, _, more := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	return layer, more && err == nil
}

// here reports whether a module of the decoder is on this stage.
func (l layout) here(x profile.Module) bool {
	if i, found := layerOf(x.Name); found && !x.Vision() {
		return l.first <= i && i < l.end
	}
	switch {
	case x.Vision():
		return l.stage == 0 || l.towers && !strings.HasSuffix(x.Name, ".pos_embed")
	case l.everywhere:
		return true
	case strings.Contains(x.Name, "embed_tokens"):
		return l.stage == 0 || l.last() && l.text.TiedEmbeddings
	}
	return l.last() // the last norm, the head
}

// rowsEnd are linear layers that are split by their input.
var rowsEnd = []string{".o_proj", ".out_proj", ".down_proj", ".attn.proj", ".linear_fc2", ".fc2", ".mlp.2"}

// columnsEnd are linear layers that are split by their output, and keysEnd those of them of which a head is the least.
var (
	columnsEnd = []string{".q_proj", ".k_proj", ".v_proj", ".gate_proj", ".up_proj", ".qkv", ".linear_fc1", ".fc1",
		".mlp.0"}
	keysEnd = []string{".k_proj", ".v_proj"}
)

// wholeEnd are linear layers that every card holds.
var wholeEnd = []string{".q_a_proj", ".kv_a_proj_with_mqa", ".shared_expert_gate"}

// ends reports whether a name is one of these.
func ends(name string, list []string) bool {
	return slices.ContainsFunc(list, func(end string) bool { return strings.HasSuffix(name, end) })
}

// shard is what this card holds of a module; false for nothing.
func (l layout) shard(x profile.Module) (profile.Module, bool) {
	if !l.here(x) {
		return x, false
	}
	n := int64(l.tensor)
	rows := ends(x.Name, rowsEnd)
	switch {
	case l.single():
	case x.Kind == profile.Experts:
		each := (x.Count + int64(l.whole) - 1) / int64(l.whole)
		x.Bias, x.Count = x.Bias/x.Count*each, each
		if n = int64(l.spread); rows {
			x.In /= n
		} else {
			x.Out, x.Bias = x.Out/n, x.Bias/n
		}
	case x.Kind == profile.Head, strings.Contains(x.Name, "embed_tokens"),
		l.towers && strings.HasSuffix(x.Name, ".pos_embed"):
		x.Out = (x.Out + 63) / 64 * 64 / n
	case x.Kind != profile.LinearModule && !strings.HasSuffix(x.Name, ".conv1d"), ends(x.Name, wholeEnd):
	case rows:
		x.In /= n
	default:
		if !x.Vision() && ends(x.Name, keysEnd) {
			n = min(n, int64(max(l.text.KVHeads, 1)))
		}
		x.Out, x.Bias = x.Out/n, x.Bias/n
	}
	return x, true
}

// stored is what this card holds of a tensor of a file that takes n bytes in memory: the module is known by the name
// before the last dot, whatever a quantiser calls its parts.
func (l layout) stored(t weights.Tensor, n units.Bytes) units.Bytes {
	x := storedModule(t)
	at := strings.LastIndexByte(t.Name, '.')
	x.Name = t.Name[:max(at, 0)]
	if !l.here(x) {
		return 0
	}
	switch rows := ends(x.Name, rowsEnd); {
	case l.single():
		return n
	case strings.Contains(x.Name, ".experts.") && l.text.MoE != nil:
		experts := units.Bytes(l.text.MoE.Experts)
		return n * ((experts + units.Bytes(l.whole) - 1) / units.Bytes(l.whole)) / experts / units.Bytes(l.spread)
	case rows && strings.HasSuffix(t.Name, ".bias"), ends(x.Name, wholeEnd):
		return n
	case rows, ends(x.Name, columnsEnd), x.Kind == profile.LinearModule, x.Kind == profile.Head:
	case strings.HasSuffix(x.Name, "embed_tokens"):
	default:
		return n
	}
	if !x.Vision() && ends(x.Name, keysEnd) {
		return n / units.Bytes(min(l.tensor, max(l.text.KVHeads, 1)))
	}
	return n / units.Bytes(l.tensor)
}

// held reports whether shards of a model's family were held against the server's own classes.
func held(m *profile.Model) bool {
	return m.Text.Variant == nil && m.Vision.Kind == "" && m.Audio == nil
}

// undivided is what so many cards cannot share out, "" for nothing: heads, copied heads of keys and values, rows of the
// vocabulary, and the widths of MLPs, of the tower as well.
func (s Served) undivided(m *profile.Model) string {
	n, t := max(s.TensorParallel, 1), &m.Text
	kv := max(t.KVHeads, 1)
	if t.Heads%n != 0 || kv%n != 0 && n%kv != 0 {
		return fmt.Sprintf("%d heads and %d of the cache", t.Heads, t.KVHeads)
	}
	if n == 1 {
		return ""
	}
	whole := []struct {
		what string
		size int
	}{{"rows of the vocabulary", (t.VocabSize + 63) / 64 * 64}, {"columns of an MLP", t.IntermediateSize},
		{"heads of the tower", m.Vision.Heads}, {"columns of the tower's MLP", m.Vision.IntermediateSize}}
	if t.MoE != nil {
		whole = whole[:1]
	}
	if m.Vision.Depth == 0 {
		whole = whole[:min(2, len(whole))]
	}
	for _, w := range whole {
		if w.size%n != 0 {
			return fmt.Sprintf("%d %s", w.size, w.what)
		}
	}
	return ""
}

// refuse says why the servers over several cards cannot lay a model out so, nil where nothing is known against it.
func (s Served) refuse(e *Engine, m *profile.Model) error {
	no := func(instead, why string, args ...any) error {
		return &Refusal{e.Name, fmt.Sprintf(why, args...), instead}
	}
	if what := s.undivided(m); what != "" {
		return no("take a number of cards that divides both, such as 2", "%d cards do not share out %s evenly",
			s.TensorParallel, what)
	}
	experts := 0
	if m.Text.MoE != nil {
		experts = m.Text.MoE.Experts
	}
	switch {
	case !s.LoRA && (s.LoRAs > 0 || s.LoRARank > 0):
		return errors.New("--max-loras and --max-lora-rank have no effect without --enable-lora")
	case s.LoRARank > 0 && !slices.Contains(ranks, s.LoRARank):
		return fmt.Errorf("--max-lora-rank %d: %s takes %s", s.LoRARank, e.Product, strings.Trim(fmt.Sprint(ranks), "[]"))
	}
	if experts == 0 && (s.ExpertParallel || s.ExpertCards > 1) {
		return no("leave --expert-parallel and --expert-cards out", "%s has no experts to share out", m.Name)
	}
	return nil
}

// behind are the stages of a pipeline with so many layers each. Image features enter behind the first layers, one level
// each, which must lie at the first stage (Qwen3VLForConditionalGeneration in vLLM asserts it).
func (l layout) behind(engine string, m *profile.Model, layers []int) (list []layout, err error) {
	levels := len(m.Vision.DeepstackLayers)
	if len(layers) > 1 && (slices.Min(layers) == 0 || layers[0] < levels) {
		return nil, &Refusal{engine, fmt.Sprintf("the first of %d stages has %d of %d layers, and image features enter at "+
			"the first %d", len(layers), layers[0], m.Text.Layers, levels), "take fewer stages"}
	}
	l.end = 0
	for i, n := range layers {
		l.stage, l.first, l.end = i, l.end, l.end+n
		list = append(list, l)
	}
	return list, nil
}

// Lacking says that a machine has fewer cards than are asked for, nil where it has as many.
func (s Served) Lacking(e *Engine, h *profile.Hardware) *Refusal {
	if !e.Cards || len(h.GPUs) == 0 || s.Cards() <= len(h.GPUs) {
		return nil
	}
	return &Refusal{e.Name, fmt.Sprintf("%d cards are asked for, and %s has %d", s.Cards(), h.Name, len(h.GPUs)),
		fmt.Sprintf("name the card %d times in --hardware", s.Cards())}
}

// Stage is what one stage of a pipeline holds on each of its cards.
type Stage struct {
	Stage        int         `yaml:"stage" json:"stage"`
	FirstLayer   int         `yaml:"first_layer" json:"first_layer"`
	Layers       int         `yaml:"layers" json:"layers"`
	WeightsBytes units.Bytes `yaml:"weights_bytes" json:"weights_bytes"` // the tower's included
	CacheTokens  int64       `yaml:"cache_tokens,omitempty" json:"cache_tokens,omitempty"`
}

// tightest is the estimate of the stage with least room for tokens, which bounds all of them; without a card, of the
// one that holds most.
func tightest(places []layout, all []*Memory) *Memory {
	counted := slices.ContainsFunc(all, func(mem *Memory) bool { return mem.TokenBytes > 0 })
	room := func(mem *Memory) float64 {
		switch {
		case mem.TokenBytes > 0:
			return float64(mem.Left.At) / float64(mem.TokenBytes)
		case counted && mem.Left.At < 0: // keeps nothing of a token, and lacks so many bytes for its weights
			return float64(mem.Left.At)
		case counted:
			return math.Inf(1)
		}
		var sum units.Bytes
		for _, i := range mem.Items {
			sum += i.Bytes
		}
		return -float64(sum)
	}
	at := 0
	for i := range all {
		if room(all[i]) < room(all[at]) {
			at = i
		}
	}
	least := all[at]
	if len(all) == 1 {
		return least
	}
	least.Stage = at + 1
	for i, mem := range all {
		s := Stage{Stage: i + 1, FirstLayer: places[i].first, Layers: places[i].end - places[i].first,
			CacheTokens: mem.CacheTokens}
		for _, item := range mem.Items {
			if item.Name == Weights || item.Name == VisionWeights {
				s.WeightsBytes += item.Bytes
			}
		}
		least.Stages = append(least.Stages, s)
	}
	least.bound(all)
	return least
}

// bound holds the interval of the cache within what every stage has room for.
func (mem *Memory) bound(all []*Memory) {
	for _, other := range all {
		if mem.TokenBytes == 0 || other.TokenBytes == 0 {
			continue
		}
		scale := func(left units.Bytes) units.Bytes {
			return units.Bytes(float64(left) / float64(other.TokenBytes) * float64(mem.TokenBytes))
		}
		mem.Left.Low, mem.Left.High = min(mem.Left.Low, scale(other.Left.Low)), min(mem.Left.High, scale(other.Left.High))
		for i := range mem.Items {
			if it := &mem.Items[i]; it.Name == KVCache {
				it.Low = max(0, min(it.Low, mem.Left.Low))
				it.High = max(it.Low, min(it.High, max(mem.Left.High, it.Bytes)))
			}
		}
	}
}

// ranks are those that vLLM takes (MaxLoRARanks in vllm/config/lora.py).
var ranks = []int{1, 8, 16, 32, 64, 128, 256, 320, 512}

// adapters adds the buffers that vLLM lays beside every linear layer of the decoder, its embeddings and its head, for
// so many adapters of a rank, whether any is loaded or not (vllm/lora/layers of 0.33.0). The tower has none.
//
//	linear      adapters·rank·(in + out)   of this card's part: rows in/tensor, columns out/tensor
//	experts     adapters·rank·experts·(in + out), gate and up as one
//	embeddings  adapters·rank·(vocabulary + width), the whole vocabulary on every card; the head as well
func (mem *Memory) adapters(m *profile.Model, s Served, at layout) {
	if !s.LoRA {
		return
	}
	n, rank := int64(orDefault(s.LoRAs, 1)), int64(orDefault(s.LoRARank, 16))
	var inner, outer int64
	for _, x := range m.Modules() {
		part, here := at.shard(x)
		switch {
		case !here || x.Vision():
		case x.Kind == profile.LinearModule, x.Kind == profile.Router:
			inner += part.In + part.Out
		case x.Kind == profile.Experts:
			inner += part.Count * (part.In + part.Out)
		case x.Kind == profile.Embedding, x.Kind == profile.Head:
			outer += x.Out + x.In
		}
	}
	if t := &m.Text; t.TiedEmbeddings && at.last() {
		outer += int64(t.VocabSize + t.HiddenSize)
	}
	size := func(elements int64) units.Bytes { return units.Bytes(2 * n * rank * elements) }
	all := size(inner + outer)
	low, high, source := all, all, Derived
	if !held(m) { // whether embeddings and head have them differs by family
		low, high, source = scaled(size(inner), 0.9), scaled(all, 1.1), Assumed
	}
	mem.add("LoRA buffers", "device", all, low, high, source,
		"%d adapters of rank %d beside every linear layer of the decoder, embeddings and head; none of the tower", n, rank)
}
