package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Form is one form of a checkpoint that an engine over PyTorch takes. A precision and a data type are two things: a
// quantised form is asked for by its own setting, or comes with a repository that was quantised, and the data type
// stays that of the activations.
type Form struct {
	Name   string  // of --quant and --precision
	Bits   float64 // of an element of the decoder's matrices, scales included
	DType  string  // data type to ask for; "" the one that suits the card
	Method string  // the engine's own name, asked for on a 16-bit repository; "" where the repository brings it
	Suffix string  // of the repository's name where another one is needed
}

// plainForms are the data types, which every such engine takes.
var plainForms = []Form{
	{Name: "auto", Bits: 16}, {Name: "bfloat16", Bits: 16, DType: "bfloat16"},
	{Name: "float16", Bits: 16, DType: "float16"}, {Name: "float32", Bits: 32, DType: "float32"},
}

// formAliases are other spellings of forms: of data types, of what a repository's name calls its form, and the methods
// and kernels by which servers load one.
var formAliases = map[string]string{"": "auto", "bf16": "bfloat16", "fp16": "float16", "half": "float16",
	"f16": "float16", "fp32": "float32", "float": "float32", "f32": "float32", "w4a16": "compressed-tensors",
	"w8a8": "w8a8_int8", "auto_awq": "awq", "awq_marlin": "awq", "auto_gptq": "gptq", "gptq_marlin": "gptq",
	"modelopt": "fp8", "w8a8_fp8": "fp8", "fp8_per_channel": "fp8"}

// Bits of published quantised checkpoints: groups of 128 with a 16-bit scale, and a 4-bit zero where they have one
// (AWQ, GPTQ); blocks of 16 with an 8-bit scale (NVFP4), of 32 (MXFP4, MXFP8), of 64 with a scale in f32 (NF4).
// grouped4, w4a16 and nf4 were measured on matrices of compressed-tensors and bitsandbytes in November 2026.
const (
	grouped4 = 4 + 20.0/128
	w4a16    = 4 + 16.0/128
	nvfp4    = 4.5
	mxfp4    = 4.25
	mxfp8    = 8.25
	nf4      = 4.5
)

// What is assumed where a figure is not exact: shares of a card's weights where its server's own classes were not
// recorded, to cover what every card has whole and what is padded to divide; and the spread of a quantised form, to
// cover scales and what is left in 16 bits, which differ by checkpoint.
const (
	dividedLeast = 0.98
	dividedMost  = 1.05
	formSpread   = 0.05
)

// formOf is the form that an engine takes by a name.
func formOf(forms []Form, engine, name string) (Form, error) {
	name = strings.ToLower(name)
	var names []string
	for _, f := range forms {
		if f.Name == name || f.Method == name || f.Name == formAliases[name] {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Form{}, fmt.Errorf("unknown data type %q for %s: want %s", name, engine, strings.Join(names, ", "))
}

// formFor is the form that a server takes by a name of this model: a checkpoint that is quantised already is loaded as
// it is, in one of the data types, and in no other scheme.
func formFor(forms []Form, engine, name string, m *profile.Model) (Form, error) {
	f, err := formOf(forms, engine, name)
	q := m.Quantisation
	if err != nil || q == nil || f.Bits >= 16 || f.Name == q.Name || f.Name == q.Method ||
		schemeOf[f.Name] != "" && strings.HasPrefix(q.Method, schemeOf[f.Name]) {
		return f, err
	}
	return f, fmt.Errorf("--quant %s: the checkpoint is quantised already (%s); only a data type can be asked for", name,
		q.Method)
}

// schemeOf are the methods of the forms that go by other names than theirs.
var schemeOf = map[string]string{"int4": "compressed-tensors", "nf4": "bitsandbytes", "nvfp4": "modelopt",
	"modelopt_fp4": "modelopt", "gptq": "gptq"}

// Unloadable says why a server cannot load a checkpoint, nil where nothing is known against it: its method is not among
// those that the release's own parser lists. auto-round goes by the name inc.
func (e *Engine) Unloadable(m *profile.Model) *Refusal {
	q := m.Quantisation
	if e.Cache != Fills || q == nil || !q.Known || q.Method == "auto-round" {
		return nil
	}
	if slices.Contains(flagsIn(e.Name + "-" + e.Version + ".txt")["quantization"], q.Method) {
		return nil
	}
	return &Refusal{Engine: e.Name, Reason: fmt.Sprintf("release %s loads no checkpoints quantised with %s", e.Version,
		q.Method),
		Alternative: "take the model in 16 bits, or quantised by awq, gptq or compressed-tensors"}
}

// served begins the account of one card of a server: its weights.
func served(m *profile.Model, o Options, f Form, kvType string, context int, at layout) *Memory {
	mem := &Memory{Quant: f.Name, KVType: kvType, ContextTokens: context, Cards: o.Served.Cards()}
	if m.Quantisation != nil || o.Files != nil && o.Files.Checkpoint != nil || f.Bits >= 16 {
		l := serverLoad(m, o, f)
		l.at = at
		if l.quant != nil {
			mem.Quant = l.quant.Name
		}
		mem.torchWeights(m, o, l)
	} else {
		mem.formWeights(m, o, f.Bits, at)
	}
	if at.single() {
		return mem
	}
	for i := range mem.Items {
		it := &mem.Items[i]
		if !at.exact {
			it.Low, it.High, it.Source = scaled(it.Low, dividedLeast), scaled(it.High, dividedMost), Assumed
		}
		it.Why += at.String()
	}
	return mem
}

// cardRow is the elements that one of so many cards keeps of a token and layer: its share of the heads, of which each
// is copied where there are fewer of them than cards; what is compressed lies on every card.
func cardRow(t *profile.Text, cards int) int64 {
	if t.Variant != nil && t.Variant.Latent != nil {
		return t.CacheRow()
	}
	if !t.Uniform() { // as many elements in all as the layers keep together
		layers := int64(max(1, t.CachedLayers()))
		return (t.KeptElements() + layers - 1) / layers / int64(min(cards, t.KVHeads))
	}
	return 2 * int64(max(1, t.KVHeads/cards)) * int64(t.HeadDim)
}

// kvWidths are the bytes of an element of SGLang's cache by type: an 8-bit scale for 16 elements (nvfp4,
// fp4_mx_block16) or 32 (mxfp8).
var kvWidths = map[string]float64{
	"auto": 2, "bfloat16": 2, "bf16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "mxfp8": 1 + 1.0/32, "nvfp4": 0.5 + 1.0/16,
	"fp4_mx_block16": 0.5 + 1.0/16,
}

// kvElement is the type of a cache as the engine spells it, and the bytes of one cached element.
func kvElement(flags Flags, engine, name string) (string, float64, error) {
	spelled := kvName(name)
	for _, taken := range flags["kv-cache-dtype"] {
		if width, sized := kvWidths[taken]; taken == spelled && sized {
			return spelled, width, nil
		}
	}
	return "", 0, fmt.Errorf("KV type %q: %s takes %s", name, engine, strings.Join(flags["kv-cache-dtype"], ", "))
}

// calibratedKV is the cache's type where it is left to the checkpoint: 8 bits where that says they were calibrated.
func calibratedKV(m *profile.Model, asked string) string {
	if q := m.Quantisation; q != nil && q.CacheBits == 8 && kvName(asked) == "auto" {
		return "fp8"
	}
	return asked
}

// kvName is a type in the spelling of the engines over PyTorch.
func kvName(name string) string {
	switch name = strings.ToLower(name); name {
	case "":
		return "auto"
	case "f16", "fp16":
		return "float16"
	}
	return name
}

// load is what to load and in which type, with the reasons.
func (s *Settings) load(f Form) (path, pathWhy, dtype, dtypeWhy string) {
	path, pathWhy = s.path(), "what to load"
	if f.Suffix != "" && s.Path == "" {
		path, pathWhy = path+f.Suffix,
			"a repository quantised in this form, which brings its settings: put the name or folder of yours here"
	}
	switch dtype, dtypeWhy = torchDType(s.GPU); {
	case f.DType != "":
		dtype, dtypeWhy = f.DType, "as given"
	case f.Suffix != "":
		dtype, dtypeWhy = "auto", "the checkpoint says it"
	}
	return path, pathWhy, dtype, dtypeWhy
}

// serve adds what a server loads, under its own key for it.
func (s *Settings) serve(l *lines, key string, forms []Form) error {
	f, err := formOf(forms, strings.Fields(s.spelled)[0], s.Quant)
	if err != nil {
		return err
	}
	path, pathWhy, dtype, dtypeWhy := s.load(f)
	l.add(key, path, "%s", pathWhy)
	l.add("served-model-name", s.Name, "what requests call it")
	if f.Suffix == "" {
		l.add("dtype", dtype, "%s", dtypeWhy)
	}
	l.add("quantization", f.Method, "the 16-bit weights are quantised as they are loaded")
	return nil
}

// formWeights are the weights in a form. Types below 16 bits hold the decoder's matrices; the tower, the
// mergers, the embeddings and the head stay in 16 bits, as the published quantised checkpoints have them.
func (mem *Memory) formWeights(m *profile.Model, o Options, bits float64, at layout) {
	var layers, rest, tower int64
	for _, x := range m.Modules() {
		switch part, here := at.shard(x); {
		case !here:
		case x.Vision():
			tower += part.Elements()
		case x.Part == profile.LayersPart:
			layers += part.Elements()
		default:
			rest += part.Elements()
		}
	}
	wide := max(bits, 16) / 8
	decoder := scaled(units.Bytes(layers), bits/8) + scaled(units.Bytes(rest), wide)
	source, why, spread := Derived, fmt.Sprintf("parameters in %g bits", bits), 0.0
	if bits < 16 {
		source, spread = Assumed, formSpread
		why += "; scales, and what stays in 16 bits, differ by checkpoint"
	}
	mem.add(Weights, o.place(), decoder, scaled(decoder, 1-spread), scaled(decoder, 1+spread), source,
		"decoder, embeddings and head: %s", why)
	if vision := scaled(units.Bytes(tower), wide); vision > 0 {
		mem.add(VisionWeights, o.place(), vision, vision, vision, Derived, "tower and mergers: parameters in 16 bits or more")
	}
}
