package engine

import (
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
)

// The graph of a decoder of 94 layers is 94 times nearly the same. Where layers repeat, alone or as a pattern, a graph
// of the first three rounds and the last reserves what the whole one does, provided that memory is the same after the
// second round and the third (ggml.Round), which is looked at each time; where it is not, the whole graph is built.

// stretches are the layers to build, and of those left out the two that must leave memory as they found it.
type stretches struct {
	layers []int
	rounds [][2]int // last layers of a second and a third round
}

// all builds every layer.
func all(m *profile.Model) (s stretches) {
	for i := range m.Text.Layers {
		s.layers = append(s.layers, i)
	}
	return s
}

const (
	mostPattern = 6 // layers: of those that see a window, every sixth sees all
	leastRounds = 6 // of which four are built
)

// distinct leaves out of the layers those that repeat others. Over several cards all are built.
func distinct(m *profile.Model, s decoderShape) stretches {
	if s.place.Cards > 1 {
		return all(m)
	}
	kinds := s.place.layerKinds(m)
	var of stretches
	for i := 0; i < len(kinds); {
		pattern, rounds := pattern(kinds[i:])
		if rounds < leastRounds {
			of.layers = append(of.layers, i)
			i++
			continue
		}
		for j := range 3 * pattern {
			of.layers = append(of.layers, i+j)
		}
		of.rounds = append(of.rounds, [2]int{i + 2*pattern - 1, i + 3*pattern - 1})
		i += pattern * rounds
		for j := range pattern {
			of.layers = append(of.layers, i-pattern+j)
		}
	}
	return of
}

// pattern is how many kinds at the front repeat, and how often, so that the most is covered.
func pattern(kinds []int) (length, rounds int) {
	for n := 1; n <= mostPattern; n++ {
		same := n
		for same < len(kinds) && kinds[same] == kinds[same-n] {
			same++
		}
		if same/n >= leastRounds && same/n*n > length*rounds {
			length, rounds = n, same/n
		}
	}
	return length, rounds
}

// layerKinds numbers the layers such that those with equal numbers build the same nodes over tensors of the same size
// and place. Of weights on the card the type does not matter: no copy of them is made.
func (p *Placement) layerKinds(m *profile.Model) []int {
	type key struct {
		before             int // what the layer's earlier tensors made
		part, kind, buffer string
		card               int
		rows, columns      int64
	}
	known := map[key]int{}
	number := func(k key) int {
		n, ok := known[k]
		if !ok {
			n = len(known) + 1
			known[k] = n
		}
		return n
	}
	kinds := make([]int, m.Text.Layers)
	for i := range kinds {
		k := key{part: string(m.Text.LayerType(i)), card: p.Layers[i]}
		for bit, set := range []bool{m.Text.Slides(i), m.Text.HasExperts(i), i < len(m.Vision.DeepstackLayers),
			i == m.Text.Layers-1} {
			if set {
				k.before -= 1 << bit // below the numbers
			}
		}
		kinds[i] = number(k)
	}
	for _, t := range p.Tensors {
		if t.Layer < 0 || t.Layer >= len(kinds) {
			continue
		}
		_, part, _ := strings.Cut(strings.TrimPrefix(t.Name, "blk."), ".")
		k := key{before: kinds[t.Layer], part: part, card: t.Card}
		if k.rows = t.Shape[0]; len(t.Shape) > 1 {
			k.columns = t.Shape[1]
		}
		if t.Card == OnHostMemory {
			k.kind, k.buffer = t.Type, t.Buffer
		}
		kinds[t.Layer] = number(k)
	}
	return kinds
}

// reserve is the bytes of the buffers that compute the graph of a shape.
func (c llamaContext) reserve(m *profile.Model, s decoderShape, o Options) []int64 {
	machine := o.machine(s.place)
	machine.Fused = machine.Fused && !c.rules.pooled
	graph := c.graph(m, s)
	tops, repeats := graph.ReserveRounds(machine)
	if !repeats {
		tops = buildDecoder(m, s, all(m)).graph.ReserveOn(machine)
	}
	return tops
}

// graph is a graph to be reserved, once: that of single tokens may have been built before.
func (c llamaContext) graph(m *profile.Model, s decoderShape) *ggml.Graph {
	if b := c.single; b != nil && !b.reserved && b.shape == s {
		b.reserved = true
		return &b.graph
	}
	return &buildDecoder(m, s, distinct(m, s)).graph
}
