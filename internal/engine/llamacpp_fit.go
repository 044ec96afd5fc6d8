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

// fitting is llama.cpp's fit of what is left to it to what is free: the context, and then what lies on the cards.
type fitting struct {
	m       *profile.Model
	r       recipe
	o       Options
	targets []units.Bytes // that decoder and context may take on each card, or of the host where there is none
	blocks  int           // layers, those of heads that are loaded too
	wrapped bool          // numbers of layers went below zero
}

// fitted are the settings that llama.cpp comes to when no context is set (common/fit.cpp of v0.5.0): the trained
// length, in v0.5.0 for every slot, where that leaves the margin free on each card, else what a straight line between
// the least context and that says of all cards together, in steps of 256 a stream. The tower is part of the first
// card's margin. Several
// cards are then filled with layers one after another, and so is one where the least context is too much.
func fitted(m *profile.Model, r recipe, o Options) (Options, string, error) {
	f := fitting{m: m, r: r, o: o, blocks: m.Text.Layers}
	if o.Llama.predicts() {
		f.blocks = m.Text.Blocks()
	}
	if err := f.aim(); err != nil {
		return o, "", err
	}
	why, done, err := f.fitContext()
	switch {
	case err != nil || done:
		return f.o, why, err
	case o.Device != "gpu":
		return o, "", &Refusal{Engine: "llama.cpp", Reason: "even the least context does not fit host memory",
			Alternative: "a smaller quantisation does"}
	case o.Llama.Fit.Placed:
		return f.o, why + "; what lies where is set, so that nothing leaves a card", nil
	}
	at, moved, err := f.fill()
	return at, why + moved, err
}

func (f *Fit) least() int { return orDefault(f.Least, fitLeast) }

// aim sets the targets: what is free, less a margin on each and the tower on the first.
func (f *fitting) aim() error {
	fit, cards := f.o.Llama.Fit, 1
	if f.o.Device == "gpu" {
		cards = f.o.Llama.used()
	}
	margin := fit.Margin
	if margin == 0 {
		margin = fitMargin
	}
	for i := range cards {
		free := fit.Free
		if f.o.Device == "gpu" && len(fit.Each) > i {
			free = fit.Each[i]
		}
		f.targets = append(f.targets, free-margin)
	}
	o := f.o
	if o.Image != nil && *o.Image == (Image{}) || f.m.TextOnly() {
		return nil
	}
	tower := &Memory{}
	o.Image = nil // the tower is measured with the image it warms up with
	err := tower.llamaVision(f.m, o, towerFlash(f.m, o))
	for _, i := range tower.Items {
		if (i.Where != "host" || o.Device != "gpu") && !(o.NoWarmup && i.Name == Vision) {
			f.targets[0] -= i.Bytes
		}
	}
	return err
}

// fitContext sets the context, and reports whether nothing else is to be fitted.
func (f *fitting) fitContext() (why string, done bool, err error) {
	streams := 1
	if !f.o.Unified {
		streams = max(f.o.Sequences, 1)
	}
	slots := f.o.Llama.rules().unset.slots(&f.o)
	if slots == 1 {
		streams = 1
	}
	most, least := f.m.Text.MaxPositions*slots, f.o.Llama.Fit.least()*streams
	f.o.Context = most
	full, weights, err := f.used(f.o)
	if err != nil {
		return "", false, err
	}
	all := fmt.Sprintf("%d times the %d tokens that the model was trained for", slots, f.m.Text.MaxPositions)
	if slots == 1 {
		all = fmt.Sprintf("all of the %d tokens that the model was trained for", most)
	}
	if f.met(full) {
		return all, true, nil
	}
	target := sumOf(f.targets)
	if sumOf(full) <= target || most <= least {
		return all, false, nil
	}
	if len(f.targets) > 1 { // whole layers alone can be shared out
		part := 2
		if f.m.Text.MoE != nil {
			part = 6
		}
		target -= units.Bytes(len(f.targets)+1) * (weights / units.Bytes(f.blocks)) / units.Bytes(part)
	}
	f.o.Context = least
	small, _, err := f.used(f.o)
	if err != nil || target <= sumOf(small) {
		return "the least context", false, err
	}
	f.o.Context += int(units.Bytes(most-least) * (target - sumOf(small)) / (sumOf(full) - sumOf(small)))
	f.o.Context = max(f.o.Context-f.o.Context%(llamaPad*streams), least)
	if len(f.targets) > 1 {
		return "the context that leaves the margin free, of all cards together", false, nil
	}
	return "the context that leaves the margin free", true, nil
}

// met reports whether every target is.
func (f *fitting) met(used []units.Bytes) bool {
	for i, target := range f.targets {
		if used[i] > target {
			return false
		}
	}
	return true
}

func sumOf(list []units.Bytes) (sum units.Bytes) {
	for _, n := range list {
		sum += n
	}
	return sum
}

// fitsBeyond warns where llama.cpp fits a context to more than the process may fill: without a card it looks at the
// machine's physical pages, not at limits of a control group (ggml_backend_cpu_device_get_memory of v0.5.0).
func (mem *Memory) fitsBeyond(f *Fit) {
	if f != nil && f.Bound > 0 && f.Bound < f.Free {
		mem.warn(FitsBeyond, "it fits the context to the machine's %s, of which %s may be filled: name a context with -c",
			f.Free, f.Bound)
	}
}

// used is what decoder, cache and compute buffers of a prompt take on each card, or on the host, where copies of
// weights in other layouts are not counted; weights are those on the cards. That single tokens may need more is not
// looked at: nothing is allocated.
func (f *fitting) used(o Options) (list []units.Bytes, weights units.Bytes, err error) {
	o.Llama.Fit = nil
	if o.Llama.Draft != nil {
		draft := *o.Llama.Draft
		draft.fits, draft.shares = true, f.o.Llama.Shares
		o.Llama.Draft = &draft
	}
	c, err := newLlamaContext(f.m, o)
	if err != nil {
		return nil, 0, err
	}
	place := PlaceLlama(f.m, f.r, o)
	c.keepFlash(f.m, place, o)
	mem := &Memory{}
	mem.llamaWeights(f.m, f.r, place, o)
	mem.llamaCache(f.m, c, place)
	mem.llamaBuffers(Compute, c.promptBytes(f.m, place, o), "")
	if err := mem.drafted(f.m, &c, o); err != nil { // a draft's context follows, and is fitted together with the model
		return nil, 0, err
	}
	list = make([]units.Bytes, len(f.targets))
	for _, i := range mem.Items {
		if i.Name == RepackedWeights || i.Name == Output || place.Cards > 0 && i.Where == "host" {
			continue
		}
		for at := range list {
			if i.Where == place.where(at) {
				list[at] += i.Bytes
			}
		}
		if i.Name == Weights {
			weights += i.Bytes
		}
	}
	return list, weights, nil
}
