package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// torchLoad is what a PyTorch engine makes of a checkpoint's weights: it keeps what is quantised, quantises what it is
// told to, and casts the rest.
type torchLoad struct {
	name    string                // what --quant or the checkpoint calls it
	element int64                 // bytes of an element of what is not quantised, of activations and of the cache
	dtype   profile.DType         // of those
	cast    bool                  // stored tensors are cast to dtype; otherwise they stay as they are
	quant   *profile.Quantisation // nil: nothing is
	asked   bool                  // quant comes from --quant, not from the checkpoint
	widened bool                  // what is stored in FP8 becomes dtype
	at      layout                // the card
}

// What is assumed of weights and caches that PyTorch loads.
const (
	// askedLeast and askedMost are shares of the decoder where --quant names a scheme: to cover which modules stay in 16
	// bits, which every publisher decides.
	askedLeast, askedMost = 0.95, 1.05
	// hybridLeast and hybridMost are shares of a cache whose blocks hold states of linear attention as well: to cover
	// blocks sized to hold a state, whose padding is not modelled.
	hybridLeast, hybridMost = 0.8, 1.05
	// otherFilesPercent is how far the elements of the files may be from config.json's before a warning: to cover buffers
	// and other tensors that are no parameters, yet be less than another size of model.
	otherFilesPercent = 2
)

// torchRules is where loaders of one checkpoint differ.
type torchRules struct {
	name string
	// as servers have it: what was saved in 32 bits runs in 16, and the experts of a mixture are matrices one by one
	serves bool
}

// serverLoad is what a server makes of a checkpoint in the form that was asked for.
func serverLoad(m *profile.Model, o Options, f Form) torchLoad {
	o.Quant = f.DType // a form that is quantised is the checkpoint's own here
	l, err := newTorchLoad(torchRules{serves: true}, m, o)
	if err != nil {
		panic(err) // a data type is always taken
	}
	return l
}

// newTorchLoad reads --quant: a data type, the name of a scheme, or nothing, which leaves it to the checkpoint.
func newTorchLoad(r torchRules, m *profile.Model, o Options) (torchLoad, error) {
	l := torchLoad{at: alone(&m.Text), dtype: m.DType, quant: m.Quantisation, cast: m.DType != ""}
	if l.dtype == "" || r.serves && l.dtype == profile.FP32 {
		name, _ := torchDType(o.GPU)
		l.dtype, _ = profile.TorchDType(name)
		l.cast = l.cast || r.serves
	}
	name := strings.ToLower(o.Quant)
	l.name = name
	asked, scheme := profile.QuantisationNamed(name)
	switch dtype, plain := profile.TorchDType(name); {
	case name == "" || name == "auto":
		l.name = "auto"
		if !r.serves {
			l.name, _ = torchDType(o.GPU)
			if m.DType == profile.FP32 {
				l.name = "float32"
			}
		}
		if l.quant != nil {
			l.name = l.quant.Name
		}
	case plain:
		l.dtype, l.cast = dtype, true
	case !scheme:
		return l, fmt.Errorf("unknown data type %q for %s: want float32, float16, bfloat16 or one of %s", o.Quant, r.name,
			strings.Join(profile.QuantisationNames(), ", "))
	case m.Quantisation == nil:
		l.quant, l.asked = asked, true
	case m.Quantisation.Method != asked.Method && m.Quantisation.Name != asked.Name:
		return l, fmt.Errorf("--quant %s: the checkpoint is quantised already (%s); only a data type can be asked for",
			o.Quant, m.Quantisation.Method)
	}
	l.element = l.dtype.Bytes()
	if l.quant != nil && r.serves && l.quant.PlainExperts && l.quant.Method == "bitsandbytes" {
		whole := *l.quant
		whole.PlainExperts = false
		l.quant = &whole
	}
	return l, nil
}

// torchWeights adds the weights: counted in the files' headers where they are given, else module by module.
func (mem *Memory) torchWeights(m *profile.Model, o Options, l torchLoad) {
	if w := l.quant.Warning(); w != "" {
		mem.warn(UnknownScheme, "%s", w)
	}
	if o.Files != nil && o.Files.Checkpoint != nil {
		mem.checkpointWeights(m, o, l)
		return
	}
	var size, low, high [2]units.Bytes // of the decoder, of the tower
	for _, x := range m.Modules() {
		x, here := l.at.shard(x)
		if !here {
			continue
		}
		i := 0
		if x.Vision() {
			i = 1
		}
		least, most := l.quant.Bounds(x, l.element)
		size[i] += units.Bytes(l.quant.Bytes(x, l.element))
		low[i], high[i] = low[i]+units.Bytes(least), high[i]+units.Bytes(most)
	}
	source, why := Derived, fmt.Sprintf("parameters in %d bits", 8*l.element)
	if l.quant != nil {
		why = fmt.Sprintf("%s, module by module; the rest in %d bits", l.quant.Name, 8*l.element)
		if !l.quant.Known {
			source = Assumed
		}
	}
	if l.asked && l.quant.Method != "bitsandbytes" { // which converts in a way of its own, whoever published the model
		source = Assumed
		low[0], high[0] = scaled(low[0], askedLeast), scaled(high[0], askedMost)
		why += "; what stays in 16 bits differs by checkpoint"
	}
	mem.add(Weights, o.place(), size[0], low[0], high[0], source, "decoder, embeddings and head: %s", why)
	if size[1] > 0 {
		mem.add(VisionWeights, o.place(), size[1], low[1], high[1], source, "tower and mergers: %s", why)
	}
	if l.quant != nil && l.quant.PlainExperts && m.Text.MoE != nil {
		mem.warn(PlainExperts, "%s leaves the experts in %d bits: since transformers 5 they are one parameter a layer, "+
			"which it does not convert",
			l.quant.Name, 8*l.element)
	}
}

// hybrid says what a server's cache is not followed in.
func (mem *Memory) hybrid(t *profile.Text) {
	if n := t.LinearLayers(); n > 0 {
		mem.warn(NotModelled, "the states of %d layers of linear attention, %s a sequence, lie in the cache's blocks as "+
			"well: "+
			"their padding is not modelled",
			n, units.Bytes(t.StateBytes(2)))
		mem.assume(KVCache, hybridLeast, hybridMost, "blocks that hold states are not modelled")
	}
}

// checkpointWeights counts the tensors of a folder as they will lie in memory.
func (mem *Memory) checkpointWeights(m *profile.Model, o Options, l torchLoad) {
	var sum, left units.Bytes
	var elements int64
	stored := true // every tensor stays as the file has it
	for _, t := range o.Files.Checkpoint {
		if strings.HasPrefix(t.Name, "mtp.") || strings.Contains(t.Name, ".mtp.") {
			left += t.Bytes
			continue
		}
		n := l.inMemory(t)
		elements += t.Elements()
		stored = stored && n == t.Bytes
		sum += l.at.stored(t, n)
	}
	why := "tensors in the files' headers, tower included"
	source := FromFile
	if !stored {
		source, why = Derived, why+fmt.Sprintf("; loaded as %s", l.name)
	}
	if left > 0 {
		why += fmt.Sprintf("; %s of drafting heads stay on the disk", left)
	}
	mem.add(Weights, o.place(), sum, sum, sum, source, "%s", why)
	if count := m.Parameters().Total(); m.Quantisation == nil && (elements < count*(100-otherFilesPercent)/100 ||
		elements > count*(100+otherFilesPercent)/100) {
		mem.warn(OtherFiles, "the files hold %s elements, config.json describes %s parameters", units.Grouped(elements),
			units.Grouped(count))
	}
}

// inMemory is what a stored tensor takes after loading.
func (l torchLoad) inMemory(t weights.Tensor) units.Bytes {
	if l.widened && strings.HasPrefix(t.Type, "f8") {
		return units.Bytes(t.Elements() * l.element)
	}
	if !slices.Contains([]string{"f64", "f32", "f16", "bf16"}, t.Type) {
		return t.Bytes // integers and FP8 are somebody's quantisation
	}
	element := int64(t.Bytes) / max(t.Elements(), 1)
	if l.cast {
		element = l.element
	}
	if !l.asked {
		return units.Bytes(t.Elements() * element)
	}
	return units.Bytes(l.quant.Bytes(storedModule(t), element))
}

// storedModule tells from a tensor's name and shape what a quantiser makes of it.
func storedModule(t weights.Tensor) profile.Module {
	name, weight := strings.CutSuffix(t.Name, ".weight")
	x := profile.Module{Name: name, Part: profile.LayersPart, Count: 1, Out: t.Elements(), In: 1}
	if strings.Contains(name, "visual") || strings.Contains(name, "vision") {
		x.Part = profile.VisionCore
	}
	shape := t.Shape
	switch {
	case strings.Contains(name, ".experts.") && len(shape) >= 2:
		x.Kind, x.Out, x.In = profile.Experts, shape[len(shape)-2], shape[len(shape)-1]
		if len(shape) == 3 {
			x.Count = shape[0]
		}
	case !weight || len(shape) != 2 || strings.Contains(name, "embed") || strings.HasSuffix(name, "mlp.gate"):
	case strings.HasSuffix(name, "lm_head"):
		x.Kind, x.Part, x.Out, x.In = profile.Head, profile.HeadPart, shape[0], shape[1]
	default:
		x.Kind, x.Out, x.In = profile.LinearModule, shape[0], shape[1]
	}
	return x
}
