package ggml

// The two backends of a split graph.
const (
	device = iota
	host
	nobody = -1
)

// ReserveSplit is the bytes of the buffers that compute the graph on a device and on the host, when operations follow
// their weights. It rewires the graph: sources that lie on the other side become copies.
func (g *Graph) ReserveSplit(deviceAlignment, hostAlignment int64) (onDevice, onHost int64) {
	for _, t := range g.Leaves {
		t.at = fixed(t)
	}
	for _, t := range g.Nodes {
		t.at = fixed(t)
	}
	spread(g.Nodes)
	settle(g.Nodes)
	for _, t := range g.Nodes {
		if t.at == host {
			t.Extra = 0
		}
	}
	parts := &Graph{Nodes: split(g.Nodes), Leaves: g.Leaves}
	r := newReservation(deviceAlignment, hostAlignment)
	tops := r.run(parts, func(t *Tensor) int { return max(t.at, device) })
	return tops[device], tops[host]
}

// MinBatch is how many rows make an operation worth copying its weights to the device.
const MinBatch = 32

// fixed is where a tensor must be: where it lies already or is pinned, on the host for inputs, beside the weights it
// reads. Large batches leave weights that lie on the host.
func fixed(t *Tensor) int {
	for _, held := range []*Tensor{t, t.Base} {
		if held == nil {
			continue
		}
		if at := held.Home.backend(); at != nobody {
			return at
		}
	}
	if t.Input {
		return host
	}
	if t.Pin != Nowhere {
		return t.Pin.backend()
	}
	if !t.Follow {
		return nobody
	}
	for _, src := range t.Src {
		if !src.Home.weight() {
			continue
		}
		if src.at == host && t.batch() >= MinBatch {
			return device
		}
		return src.at
	}
	return nobody
}

func (h Home) backend() int {
	switch h.Cache() {
	case OnDevice:
		return device
	case OnHost:
		return host
	}
	return nobody
}

// batch is the rows that decide whether an operation is moved to the device with its weights.
func (t *Tensor) batch() int64 {
	switch {
	case t.Op == OpGetRows:
		return 0
	case t.Op == OpMulMat && len(t.Src) == 3:
		return t.NE[2]
	case t.Op == OpMulMat:
		return t.NE[1]
	}
	return t.NE[1] * t.NE[2] * t.NE[3]
}

// spread gives unassigned operations to their neighbours' backend: first the device's, down and up, then any.
func spread(nodes []*Tensor) {
	for _, deviceOnly := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			current := nobody
			for i := range nodes {
				t := nodes[i]
				if !down {
					t = nodes[len(nodes)-1-i]
				}
				switch at := t.at; {
				case t.Op == OpView:
				case at == nobody && current != nobody:
					t.at = current
				case at == host && deviceOnly:
					current = nobody
				case at != nobody:
					current = at
				}
			}
		}
	}
}

// settle puts views beside what they look at and remaining leaves beside who reads them.
func settle(nodes []*Tensor) {
	for _, t := range nodes {
		if t.at == nobody && t.Base != nil {
			t.at = t.Base.at
		}
		for _, src := range t.Src {
			if src.at != nobody {
				continue
			}
			if src.Base != nil {
				src.at = src.Base.at
			} else {
				src.at = t.at
			}
		}
	}
}

// borrows reports whether t reads a weight that lies on the other side.
func borrows(t *Tensor) bool {
	for _, src := range t.Src {
		if src.Home.weight() && src.at != t.at {
			return true
		}
	}
	return false
}

// split cuts the list where the backend changes, and before an operation that borrows a weight, so that one borrowed
// weight can take the place of the last. The copies that a part needs come at its start, each after a reading of its
// source, so that the source lives until then.
func split(nodes []*Tensor) []*Tensor {
	var out, part, inputs []*Tensor
	copies := map[*Tensor]*Tensor{} // of host tensors on the device and of device tensors on the host
	current := nobody
	flush := func() {
		for _, in := range inputs {
			reading := View(in, in.NE, in.NB)
			reading.Op = OpNone
			reading.at = in.at
			out = append(out, reading, copies[in])
		}
		out = append(out, part...)
		part, inputs = nil, nil
	}
	for _, t := range nodes {
		if t.Op != OpView {
			if at := t.at; current != nobody && (at != current || len(inputs) > 0 && borrows(t)) {
				flush()
			}
			current = t.at
			for i, src := range t.Src {
				if src.at == current {
					continue
				}
				if copies[src] == nil {
					c := fresh(src.Type, OpNone, src.NE[:]...)
					c.NB = src.NB
					if current == device {
						c.Extra = src.Type.padding(src.NE[0])
					}
					copies[src], c.at = c, current
					inputs = append(inputs, src)
				}
				t.Src[i] = copies[src]
			}
		}
		part = append(part, t)
	}
	flush()
	return out
}
