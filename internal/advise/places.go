package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/placement"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Places is what of a model lies where beside a card. Its bytes are those of the budget's weights and KV cache.
type Places struct {
	Layers  Piece `yaml:"layers" json:"layers"` // the decoder, with embeddings and head
	KVCache Piece `yaml:"kv_cache" json:"kv_cache"`
	Tower   Piece `yaml:"tower" json:"tower"` // weights of the vision tower
}

// Piece is the bytes of one part by where they lie; nil where there are none.
type Piece struct {
	Device   *Value[units.Bytes] `yaml:"device_bytes,omitempty" json:"device_bytes,omitempty"`
	Pinned   *Value[units.Bytes] `yaml:"pinned_bytes,omitempty" json:"pinned_bytes,omitempty"`
	Pageable *Value[units.Bytes] `yaml:"pageable_bytes,omitempty" json:"pageable_bytes,omitempty"`
	Managed  *Value[units.Bytes] `yaml:"managed_bytes,omitempty" json:"managed_bytes,omitempty"`
	// Saves is seconds of a step that what is on the card saves, against all of the piece in host memory; nil where the
	// machine's rates are not known.
	Saves *Value[float64] `yaml:"saves_s,omitempty" json:"saves_s,omitempty"`
}

// By is the bytes of a piece by place.
func (p *Piece) By() map[memory.Place]units.Bytes {
	list := map[memory.Place]units.Bytes{}
	for place, v := range p.each() {
		if *v != nil {
			list[place] = (*v).Value
		}
	}
	return list
}

func (p *Piece) each() map[memory.Place]**Value[units.Bytes] {
	return map[memory.Place]**Value[units.Bytes]{memory.Device: &p.Device, memory.Pinned: &p.Pinned,
		memory.Pageable: &p.Pageable, memory.Managed: &p.Managed}
}

// add counts more bytes at a place.
func (p *Piece) add(place memory.Place, n units.Bytes, why string) {
	if n == 0 {
		return
	}
	into := p.each()[place]
	if *into == nil {
		*into = new(derived(n, why))
		return
	}
	(*into).Value += n
}

// whole is the bytes of a piece at all places.
func (p *Piece) whole() (sum units.Bytes) {
	for _, n := range p.By() {
		sum += n
	}
	return sum
}

// Pieces are the parts by name, in order.
func (p *Places) Pieces() []struct {
	Name string
	*Piece
} {
	return []struct {
		Name string
		*Piece
	}{{"layers", &p.Layers}, {"kv_cache", &p.KVCache}, {"tower", &p.Tower}}
}

// placer is the machine as placement sees it, with all of the card's memory; known is false where its rates are only a
// card's against a host's in general, which tells an order and no time.
func (in *Inputs) placer() (m placement.Machine, known bool) {
	host, _ := speed.HostOf(in.Hardware)
	if m, err := placement.MachineOf(in.Hardware); err == nil && host != nil && m.DeviceRate > 0 {
		m.HostRate = host.ReadRate()
		return m, true
	}
	return placement.Machine{DeviceRate: 10, PinnedRate: 1, PageableRate: 1, HostRate: 1}, false
}

// onCard asks placement how many layers, each with its cache, lie on a card that has room for so many bytes of them.
func (in *Inputs) onCard(layer, room units.Bytes) (layers int) {
	m, _ := in.placer()
	m.DeviceBytes = int64(room)
	objects := make([]placement.Object, in.Model.Text.Layers)
	for i := range objects {
		objects[i] = placement.Object{Name: fmt.Sprintf("layer.%d", i), Kind: "layer", Bytes: int64(layer),
			Touched: float64(layer)}
	}
	a, err := placement.Plan(m, objects)
	if err != nil {
		return 0 // less than no room
	}
	for _, d := range a.Decisions {
		if d.Place == memory.Device {
			layers++
		}
	}
	return layers
}

// placed is where an engine's items lie, and what the card's part of each piece saves a step. Nil without a card.
func (in *Inputs) placed(d *Deployment) *Places {
	if in.gpu() == nil {
		return nil
	}
	p := &Places{}
	for _, i := range d.Memory.Items {
		piece := map[string]*Piece{engine.Weights: &p.Layers, engine.RepackedWeights: &p.Layers, engine.KVCache: &p.KVCache,
			engine.VisionWeights: &p.Tower}[i.Name]
		place, why := memory.Device, "as "+in.Engine+" places them by the settings of --for"
		switch {
		case piece == nil:
			continue
		case i.Where == "host" && i.Backing == engine.BackedPinned:
			place = memory.Pinned
		case i.Where == "host":
			place, why = memory.Pageable, i.Why
		}
		piece.add(place, i.Bytes, why)
	}
	in.price(p, d.Options.HostLayers, d.Settings.ExpertLayers, d.Options.Llama.NoTower)
	return p
}

// placedByPools is placed for a program over vlmem's pools: whole layers with their caches.
func (in *Inputs) placedByPools(b *Budget, p Precision) *Places {
	if b.Device == nil {
		return nil
	}
	q := &Places{}
	q.Tower.add(memory.Device, p.VisionBytes, "it runs on the card")
	q.Layers.add(memory.Device, b.Device.Weights.Value-p.VisionBytes, b.LayersOnDevice.Why+" layers, embeddings and head")
	q.Layers.add(memory.Pageable, b.Host.Weights.Value, b.Host.Weights.Why)
	q.KVCache.add(memory.Device, b.Device.KVCache.Value, "of the layers on the card")
	q.KVCache.add(memory.Pageable, b.Host.KVCache.Value, b.Host.KVCache.Why)
	in.price(q, in.Model.Text.Layers-b.LayersOnDevice.Value, 0, false)
	return q
}

// price says what the card's part of each piece saves: objects of the model in their order, each costed by placement
// where the settings put it, and scaled to the piece's bytes.
func (in *Inputs) price(p *Places, hostLayers, expertLayers int, towerOnHost bool) {
	m, known := in.placer()
	objects, err := placement.ObjectsOf(&in.Model, placement.Shape{WeightBits: 16, VisionBits: 16,
		Tokens: in.Limits.ContextTokens * in.Limits.Concurrency, KV: profile.FP16, ImagePeriod: answerTokens})
	if !known || err != nil || in.unified() {
		return // one memory: nothing is nearer
	}
	type sums struct {
		bytes int64
		saved float64
	}
	var layers, cache, tower sums
	at := 0 // the layer that the next weights are of
	for _, o := range objects {
		into, away := &layers, at < hostLayers
		switch o.Kind {
		case "vision":
			into, away = &tower, towerOnHost
		case "kv_cache":
			into = &cache
			at++
		case "experts":
			away = away || at < expertLayers
		case "embedding":
			away = o.Sparse // a tied one is the head as well, which is on the card
		}
		if into.bytes += o.Bytes; !away {
			into.saved += m.Saves(o, memory.Pageable)
		}
	}
	for _, pair := range []struct {
		*Piece
		sums
	}{{&p.Layers, layers}, {&p.KVCache, cache}, {&p.Tower, tower}} {
		if pair.bytes > 0 && pair.whole() > 0 && pair.saved > 0 {
			pair.Saves = new(derived(significant(pair.saved*float64(pair.whole())/float64(pair.bytes)),
				"a token, by the rates of both memories; the tower's share of one, at an image every 256 tokens"))
		}
	}
}

// held holds the places against the budget, whose weights and cache they are, and against an estimate made again.
func (p *Places) held(b *Budget, again *Places, v *Verification) {
	on := func(pieces ...*Piece) (card, host units.Bytes) {
		for _, q := range pieces {
			card += q.By()[memory.Device]
			host += q.whole() - q.By()[memory.Device]
		}
		return card, host
	}
	for _, sum := range []struct {
		name        string
		pieces      []*Piece
		card, claim units.Bytes
	}{{"weights", []*Piece{&p.Layers, &p.Tower}, b.Device.Weights.Value, b.Host.Weights.Value},
		{"kv_cache", []*Piece{&p.KVCache}, b.Device.KVCache.Value, b.Host.KVCache.Value}} {
		card, host := on(sum.pieces...)
		v.bytes("placement "+sum.name+" on the card", card, card, card, sum.card, "the budget's")
		v.bytes("placement "+sum.name+" on the host", host, host, host, sum.claim, "the budget's")
	}
	if again == nil {
		return
	}
	seen := again.Pieces()
	for i, q := range p.Pieces() {
		for _, place := range []memory.Place{memory.Device, memory.Pinned, memory.Pageable, memory.Managed} {
			if at := q.By()[place]; at > 0 || seen[i].By()[place] > 0 {
				v.bytes(fmt.Sprintf("placement.%s %v", q.Name, place), at, at, at, seen[i].By()[place],
					"the engine's estimate, made again")
			}
		}
	}
}
