package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The defaults of llama.cpp's -fitt and -fitc.
const (
	fitMargin = units.GiB
	fitLeast  = 4096
)

// fitted are the settings that llama.cpp comes to when no context is set (common/fit.cpp of v0.5.0): the trained length
// for every slot where that leaves the margin free, else what a straight line between the least context and that says,
// in steps of 256 a stream. The tower is part of the margin. Where even the least context does not fit, layers leave
// the cards, experts first.
func fitted(m *profile.Model, r recipe, o Options) (Options, string, error) {
	f := *o.Llama.Fit
	streams := 1
	if !o.Unified {
		streams = max(o.Sequences, 1)
	}
	most, least := m.Text.MaxPositions*max(o.Sequences, 1), f.least()*streams
	target, err := f.target(m, o)
	if err != nil {
		return o, "", err
	}
	used := func(tokens int) (units.Bytes, error) { return fitUse(m, r, o, tokens) }
	atMost, err := used(most)
	if err != nil {
		return o, "", err
	}
	o.Context = most
	if atMost <= target || most <= least {
		return o, fmt.Sprintf("all of the %d tokens that slots can be trained for", most), nil
	}
	atLeast, err := used(least)
	if err != nil {
		return o, "", err
	}
	if o.Context = least; target <= atLeast && f.Placed {
		return o, "the least context; what lies where is set, so that nothing leaves a card", nil
	} else if target <= atLeast {
		return fitLayers(m, r, o, target)
	}
	cards := units.Bytes(o.Llama.used())
	if o.Device == "gpu" && cards > 1 { // whole layers alone can be shared out
		place := PlaceLlama(m, r, o)
		var weights units.Bytes
		for card := range place.Cards {
			weights += place.sum(card, "")
		}
		part := units.Bytes(2)
		if m.Text.MoE != nil {
			part = 6
		}
		target -= (cards + 1) * (weights / units.Bytes(m.Text.Layers+1)) / part
	}
	o.Context += int(units.Bytes(most-least) * (target - atLeast) / (atMost - atLeast))
	o.Context = max(o.Context-o.Context%(llamaPad*streams), least)
	if cards > 1 && o.Device == "gpu" {
		return o, "the context that leaves the margin free, of all cards together", nil
	}
	return o, "the context that leaves the margin free", nil
}

func (f *Fit) least() int { return orDefault(f.Least, fitLeast) }

// target is what decoder and context may take on all cards: what is free, less a margin on each and the tower.
func (f *Fit) target(m *profile.Model, o Options) (units.Bytes, error) {
	margin := f.Margin
	if margin == 0 {
		margin = fitMargin
	}
	cards := units.Bytes(1)
	if o.Device == "gpu" {
		cards = units.Bytes(o.Llama.used())
	}
	target := cards * (f.Free - margin)
	if len(f.Each) >= int(cards) && o.Device == "gpu" {
		target = -cards * margin
		for _, free := range f.Each[:cards] {
			target += free
		}
	}
	if o.Image != nil && *o.Image == (Image{}) || m.TextOnly() {
		return target, nil
	}
	tower := &Memory{}
	at := o
	at.Image = nil // the tower is measured with the image it warms up with
	err := tower.llamaVision(m, at, towerFlash(m, o))
	for _, i := range tower.Items {
		if (i.Where != "host" || o.Device != "gpu") && !(o.NoWarmup && i.Name == Vision) {
			target -= i.Bytes
		}
	}
	return target, err
}

// fitsBeyond warns where llama.cpp fits a context to more than the process may fill: without a card it looks at the
// machine's physical pages, not at limits of a control group (ggml_backend_cpu_device_get_memory of v0.5.0).
func (mem *Memory) fitsBeyond(f *Fit) {
	if f != nil && f.Bound > 0 && f.Bound < f.Free {
		mem.warn(FitsBeyond, "it fits the context to the machine's %s, of which %s may be filled: name a context with -c",
			f.Free, f.Bound)
	}
}

// fitUse is what decoder, cache and compute buffers take of what is fitted: the cards together, or the host, where
// copies of weights in other layouts are not counted.
func fitUse(m *profile.Model, r recipe, o Options, tokens int) (units.Bytes, error) {
	o.Context, o.Llama.Fit = tokens, nil
	c, err := newLlamaContext(m, o)
	if err != nil {
		return 0, err
	}
	place := PlaceLlama(m, r, o)
	c.keepFlash(m, place, o)
	mem := &Memory{}
	mem.llamaWeights(m, r, place, o)
	mem.llamaCache(m, c, place)
	mem.llamaBuffers(Compute, c.computeBytes(m, place, o), "")
	if err := mem.drafted(m, &c, o); err != nil { // a draft's context follows, and is fitted together with the model
		return 0, err
	}
	var sum units.Bytes
	for _, i := range mem.Items {
		if (i.Where == "host") == (place.Cards == 0) && i.Name != RepackedWeights && i.Name != Output {
			sum += i.Bytes
		}
	}
	return sum, nil
}

// fitLayers moves as much to the host as the least context needs: experts layer by layer, then whole layers. llama.cpp
// fills its cards tensor by tensor, so that this is a bound of what leaves.
func fitLayers(m *profile.Model, r recipe, o Options, target units.Bytes) (Options, string, error) {
	if o.Device != "gpu" {
		return o, "", &Refusal{Engine: "llama.cpp", Reason: "even the least context does not fit host memory",
			Alternative: "a smaller quantisation does"}
	}
	overrides := o.Llama.Overrides
	for n := 1; m.Text.MoE != nil && n <= m.Text.Layers; n++ {
		o.Llama.Overrides = append(append([]Override{}, overrides...), ExpertsOnHost(n)...)
		if used, err := fitUse(m, r, o, o.Context); err != nil || used <= target {
			return o, fmt.Sprintf("the least context, with the experts of %d layers on the host", n), err
		}
	}
	for o.HostLayers < m.Text.Blocks()+1 {
		o.HostLayers++
		if used, err := fitUse(m, r, o, o.Context); err != nil || used <= target {
			return o, fmt.Sprintf("the least context, with %d layers on the host", o.HostLayers), err
		}
	}
	return o, "the least context, with every layer on the host", nil
}
