package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The buffers of weights on the host. A card's is its number.
const (
	BufferPlain    = "CPU"        // as in the file: a mapped range of it, or a copy
	BufferPinned   = "pinned"     // a copy that a card can read
	BufferRepacked = "CPU_REPACK" // a copy in the layout of the CPU's kernels
	BufferAMX      = "AMX"        // the same for AMX tiles
)

// PlacedTensor is a tensor of a decoder's file and the buffer that it lies in. A tied table is listed twice, as
// embeddings and as the head that reads them.
type PlacedTensor struct {
	Name   string
	Type   string // ggml's name
	Shape  []int64
	Layer  int         // -1 outside the layers
	Card   int         // OnHostMemory, or which
	Buffer string      // one of the above on the host, "" on a card
	Bytes  units.Bytes // in that buffer, padding included
	Shared bool        // the same bytes as an earlier tensor: a tied head beside its embeddings
	At     units.Bytes // where it lies in its file's data
	Part   int         // of a file cut into several

	operation weightOperation
}

// Placement is where every tensor of a decoder lies: what llama.cpp decides when it loads a file.
type Placement struct {
	Tensors []PlacedTensor
	Layers  []int // the card of every layer and of the head after them, OnHostMemory for the host
	Cards   int   // 0 without a card
	homes   map[string]ggml.Home
	kinds   map[string]ggml.Type
}

// PlaceLlama says where llama.cpp puts the tensors of a decoder: the embeddings on the host, layers and head by
// HostLayers and the cards' shares, and first of all what Overrides name.
func PlaceLlama(m *profile.Model, r recipe, o Options) *Placement {
	list := r.typed(&m.Text, o.Files, o.Llama.predicts())
	p := &Placement{Tensors: make([]PlacedTensor, 0, len(list)+1), homes: make(map[string]ggml.Home, len(list)+1),
		kinds: make(map[string]ggml.Type, len(list)+1)}
	if o.Device == "gpu" {
		p.Cards = o.Llama.used()
	}
	p.assignLayers(m.Text.Blocks(), o)
	p.Layers = slices.Delete(p.Layers, m.Text.Layers, m.Text.Blocks())
	for i, t := range list {
		if t.Name == "token_embd.weight" {
			p.put(t, OnHostMemory, opGetRows, o)
			if m.Text.TiedEmbeddings {
				head := list[i]
				p.put(head, p.Layers[m.Text.Layers], opMulMat, o)
			}
			continue
		}
		layer := t.Layer
		if layer < 0 || layer >= m.Text.Layers {
			layer = m.Text.Layers
		}
		p.put(t, p.Layers[layer], operation(t.Name), o)
	}
	return p
}

// IdleOverride is the pattern of the first overrides that no tensor's name matches, "" for none.
func IdleOverride(m *profile.Model, o Options, first int) string {
	r, err := o.recipe()
	if err != nil || first == 0 {
		return ""
	}
	list := PlaceLlama(asLlama(m), r, o).Tensors
	for _, over := range o.Llama.Overrides[:min(first, len(o.Llama.Overrides))] {
		if !slices.ContainsFunc(list, func(t PlacedTensor) bool { return over.Pattern.MatchString(t.Name) }) {
			return over.Pattern.String()
		}
	}
	return ""
}

// assignLayers shares the layers that leave the host, the head counting as one after the last, out over the cards:
// layer i of n goes to the first card whose cumulated share is above i/n (llama_model::load_tensors). Builds before the
// end of 2025 kept the head on the host until every layer had left it.
func (p *Placement) assignLayers(layers int, o Options) {
	p.Layers = make([]int, layers+1)
	ends := make([]float32, p.Cards)
	var sum float32
	for i, share := range o.shares(p.Cards, profile.ContextBytes) {
		sum += float32(share)
		ends[i] = sum
	}
	first := min(o.HostLayers, layers+1)
	count := layers + 1 - first
	if o.Llama.rules().headLast {
		first = max(first-1, 0)
	}
	for i := range p.Layers {
		p.Layers[i] = OnHostMemory
		if p.Cards == 0 || i < first || i-first >= count {
			continue
		}
		at := float32(i-first) / float32(count)
		p.Layers[i] = min(slices.IndexFunc(append(ends, 2*sum), func(e float32) bool { return e/sum > at }), p.Cards-1)
	}
}

// The operations that read weights, as far as buffers care.
type weightOperation uint8

const (
	opElementwise weightOperation = iota
	opGetRows
	opMulMat
	opMulMatID
)

// operation is how a decoder's graph reads a tensor (LLM_TENSOR_INFOS of src/llama-arch.cpp).
func operation(name string) weightOperation {
	switch {
	case !strings.HasSuffix(name, ".weight"), strings.HasSuffix(name, "_norm.weight"):
		return opElementwise
	case strings.HasSuffix(name, "exps.weight"):
		return opMulMatID
	}
	return opMulMat
}

// put places one tensor; card is its layer's.
func (p *Placement) put(t PlacedTensor, card int, op weightOperation, o Options) {
	for _, over := range o.Llama.Overrides {
		// Of a hundred patterns, one for each layer, nearly all end at their first letters.
		if first, _ := over.Pattern.LiteralPrefix(); strings.Contains(t.Name, first) && over.Pattern.MatchString(t.Name) {
			card = over.Card
			break
		}
	}
	kind, _ := ggml.TypeByName(t.Type)
	rows := int64(1)
	for _, n := range t.Shape[1:] {
		rows *= n
	}
	t.Card, t.operation = card, op
	home := ggml.WeightHost
	if card >= 0 && p.Cards > 0 {
		t.Bytes = units.Bytes(kind.OnDevice(t.Shape[0], rows, cudaAlignment))
		home = ggml.Card(card).Weight()
	} else {
		t.Card = OnHostMemory
		t.Buffer, t.Bytes = p.hostBuffer(t, kind, op, o)
		if t.Buffer == BufferRepacked || t.Buffer == BufferAMX {
			home = home.Packed()
		}
	}
	_, again := p.homes[t.Name] // few are: the list is searched for these alone
	t.Shared = again && slices.ContainsFunc(p.Tensors, func(other PlacedTensor) bool {
		return other.Name == t.Name && other.Card == t.Card && other.Buffer == t.Buffer
	})
	name := t.Name
	if _, embeddings := p.homes[name]; embeddings {
		name = "output.weight"
	}
	p.homes[name], p.kinds[name] = home, kind
	p.Tensors = append(p.Tensors, t)
}

// hostBuffer is the first buffer of llama.cpp's list that a tensor's operation can run from. Where a card has pinned
// memory to offer, that comes before repacking, and the file's pages are taken instead of it where they are mapped.
func (p *Placement) hostBuffer(t PlacedTensor, kind ggml.Type, op weightOperation, o Options) (string, units.Bytes) {
	plain := units.Bytes(tensorBytes(kind.Name, t.Shape))
	switch {
	case p.Cards > 0 && o.Llama.pins():
		if !o.Llama.mapped() && (op != opGetRows || gathers(kind, t.Shape[0])) {
			return BufferPinned, plain
		}
		return BufferPlain, plain
	case o.Llama.NoRepack:
		return BufferPlain, plain
	}
	return cpuFeatures(o.Llama.CPU).buffer(kind, t.Shape, op)
}

// pins reports whether the cards' backend has memory of the host that it can read; Metal and OpenCL have none in
// v0.5.0.
func (l *LlamaOptions) pins() bool { return l.backend() != "metal" && l.backend() != "opencl" }

// gathers reports whether CUDA has a kernel that looks rows of a table up (ggml-cuda.cu of v0.5.0).
func gathers(kind ggml.Type, width int64) bool {
	return kind.Name != "iq4_nl" && kind.Name != "mxfp4" || width%256 == 0
}

// typed is the tensors of a file: as its header lists them, with or without blocks of heads of the model's own, or as
// this recipe makes them.
func (r recipe) typed(t *profile.Text, files *Files, heads bool) []PlacedTensor {
	var list []PlacedTensor
	if files != nil && len(files.Tensors) > 0 {
		for _, x := range files.Tensors {
			layer := outside
			if n, err := fmt.Sscanf(x.Name, "blk.%d.", &layer); n != 1 || err != nil {
				layer = outside
			}
			if t.PredictLayers > 0 && layer >= t.Layers && !heads {
				continue // not loaded (src/models/qwen35.cpp of v0.5.0, TENSOR_SKIP)
			}
			list = append(list, PlacedTensor{Name: x.Name, Type: x.Type, Shape: x.Shape, Layer: layer, At: x.At, Part: x.Part})
		}
		return list
	}
	tensors := decoderTensors(t)
	list = make([]PlacedTensor, 0, len(tensors))
	for _, x := range tensors {
		list = append(list, PlacedTensor{Name: x.name, Type: r.typeOf(x, t), Shape: x.shape, Layer: x.layer})
	}
	asQuantised(list)
	return list
}

// asQuantised gives tensors the offsets that llama-quantize writes them at: those of no layer first, then layer by
// layer, each by name.
func asQuantised(list []PlacedTensor) {
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if list[a].Layer != list[b].Layer {
			return list[a].Layer - list[b].Layer
		}
		return strings.Compare(list[a].Name, list[b].Name)
	})
	var at units.Bytes
	for _, i := range order {
		list[i].At = at
		at += units.Bytes(tensorBytes(list[i].Type, list[i].Shape))
	}
}

// home is where a weight lies, and otherwise where its layer does.
func (p *Placement) home(name string, layer int) ggml.Home {
	if h, ok := p.homes[name]; ok {
		return h
	}
	return p.layerHome(layer).Weight()
}

// layerHome is the place of a layer: its cache lies there.
func (p *Placement) layerHome(layer int) ggml.Home {
	if card := p.Layers[layer]; card >= 0 {
		return ggml.Card(card)
	}
	return ggml.OnHost
}

// Mapped is the range of the file that stays mapped where tensors are read from its pages: from the first to behind the
// last tensor in a plain buffer, what lies between included.
func (p *Placement) Mapped() units.Bytes {
	type span struct{ first, end units.Bytes }
	parts := map[int]*span{}
	for _, t := range p.Tensors {
		if t.Buffer != BufferPlain {
			continue
		}
		end := t.At + units.Bytes(rawBytes(t.Type, t.Shape))
		if s := parts[t.Part]; s == nil {
			parts[t.Part] = &span{t.At, end}
		} else {
			s.first, s.end = min(s.first, t.At), max(s.end, end)
		}
	}
	var sum units.Bytes
	for _, s := range parts {
		sum += s.end - s.first
	}
	return sum
}

// inFile is the bytes of all tensors of the file, wherever they went.
func (p *Placement) inFile() units.Bytes {
	var sum units.Bytes
	seen := map[string]bool{}
	for _, t := range p.Tensors {
		if !seen[t.Name] {
			seen[t.Name] = true
			sum += units.Bytes(tensorBytes(t.Type, t.Shape))
		}
	}
	return sum
}

// stays says what of the decoder is left on the host where there is a card.
func (p *Placement) stays(m *profile.Model) string {
	layers := 0
	for _, card := range p.Layers {
		if card == OnHostMemory {
			layers++
		}
	}
	text := "token embeddings stay on the host"
	if layers > 0 {
		text = fmt.Sprintf("token embeddings and %d of %d layers, the head counting as one", layers, m.Text.Blocks()+1)
	}
	named := 0
	for _, t := range p.Tensors {
		if t.Card == OnHostMemory && t.Layer >= 0 && p.Layers[t.Layer] != OnHostMemory {
			named++
		}
	}
	if named > 0 {
		text += fmt.Sprintf(", and %d tensors by name", named)
	}
	return text
}

// copiesOnAny is the least and the most that the same tensors take in a buffer on PCs; servers with AMX and Arm's CPUs
// copy more types.
func (p *Placement) copiesOnAny(buffer string, at units.Bytes) (low, high units.Bytes, source string) {
	low, high = at, at
	for _, f := range []features{plainCPU, avx2CPU, avx512CPU} {
		var sum units.Bytes
		for _, t := range p.Tensors {
			kind, _ := ggml.TypeByName(t.Type)
			if got, bytes := f.buffer(kind, t.Shape, t.operation); got == buffer {
				sum += bytes
			}
		}
		low, high = min(low, sum), max(high, sum)
	}
	return low, high, Assumed
}

// onCards is what each card holds of the weights. Split by rows, matrices are shared out over all of them; experts'
// stacks, norms and biases stay with their layer (ggml_backend_cuda_split_buffer_type of b9294).
func (p *Placement) onCards(l *LlamaOptions) []units.Bytes {
	list := make([]units.Bytes, p.Cards)
	var shared units.Bytes
	for _, t := range p.Tensors {
		switch {
		case t.Card < 0 || t.Shared:
		case l.SplitMode == "row" && p.Cards > 1 && t.operation == opMulMat && len(t.Shape) == 2:
			shared += t.Bytes
		default:
			list[t.Card] += t.Bytes
		}
	}
	for i, portion := range l.portions(p.Cards) {
		list[i] += scaled(shared, portion)
	}
	return list
}

// sum adds up what lies in a buffer of the host, or on a card where buffer is "".
func (p *Placement) sum(card int, buffer string) units.Bytes {
	var sum units.Bytes
	for _, t := range p.Tensors {
		if t.Card == card && t.Buffer == buffer && !t.Shared {
			sum += t.Bytes
		}
	}
	return sum
}
