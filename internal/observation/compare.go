package observation

import (
	"bytes"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// What a process holds beside its engine's items where no run taught it: the heap of code, tokenizer and C library, and
// the pages of the program and its libraries.
var unknown = []engine.Item{
	{Name: Process, Where: "host", Bytes: 64 * units.MiB, Low: 16 * units.MiB, High: 512 * units.MiB,
		Source: engine.Assumed},
	{Name: Libraries, Where: "host", Bytes: 16 * units.MiB, Low: 4 * units.MiB, High: 256 * units.MiB,
		Source: engine.Assumed},
}

// Compare puts an engine's estimate, what the engine said in its log, and what the kernel counted into items: each item
// of the estimate; what the process and its libraries hold beside them; then anonymous and mapped memory and their sum.
// Of mapped weights the whole range that stays mapped counts in the sums; pages of files that only loading maps count
// before the rest is there. What the process holds is what anonymous
// memory held beside the engine's own items, as the log gives them, else as they were estimated.
func (o *Observation) Compare(mem *engine.Memory, said []engine.Item) {
	o.Engine, o.Version, o.Model, o.Quant, o.Device = mem.Engine, mem.Version, mem.Model, mem.Quant, mem.Device
	sums := map[string]*Item{}
	for _, name := range []string{Anonymous, Mapped, Total, pinned} {
		sums[name] = &Item{Name: name, Where: "host", Source: engine.Derived}
	}
	var loading Item                  // the total while the weights are loaded
	known := map[string]units.Bytes{} // of anonymous and mapped memory, what engine and estimate account for
	for _, i := range withUnknown(append(slices.Clone(mem.Items), mem.Own...)) {
		item := Item{Name: i.Name, Where: i.Where, Predicted: i.Bytes, Low: i.Low, High: i.High, Source: i.Source}
		if b, ok := saidOf(said, i.Name, i.Where); ok {
			item.Seen, item.Witness = b, "log"
		}
		o.Items = append(o.Items, item)
		if i.Where != "host" {
			continue
		}
		if more := i.MappedBytes - i.Bytes; more > 0 {
			i.Bytes, i.Low, i.High = i.MappedBytes, i.Low+more, i.High+more
		}
		part := partOf(i)
		sums[part].add(i)
		if loaded(i.Name) {
			loading.add(i)
		}
		if i.Name != engine.FilePages {
			sums[Total].add(i)
		}
		switch {
		case i.Name == Process || i.Name == Libraries:
		case item.Witness != "" && part == Anonymous:
			known[part] += item.Seen
		default:
			known[part] += i.Bytes
		}
	}
	sums[Total].atLeast(loading)
	o.seen(sums, known)
	o.seenLoading()
	o.seenCard()
}

// seenCard puts what the driver says of the program's processes beside the sum of what was predicted on cards, and the
// rest of it beside the one item there that was assumed, such as the driver's context.
func (o *Observation) seenCard() {
	sum, known := Item{Name: Total, Where: "device", Source: engine.Derived}, units.Bytes(0)
	var open []int
	for n, i := range o.Items {
		switch {
		case i.Where == "host":
			continue
		case i.Witness != "":
			known += i.Seen
		case i.Source == engine.Assumed:
			open = append(open, n)
		default:
			known += i.Predicted
		}
		sum.Predicted, sum.Low, sum.High = sum.Predicted+i.Predicted, sum.Low+i.Low, sum.High+i.High
	}
	held := o.Peak.Device
	if held > 0 {
		sum.Seen, sum.Witness = held, "driver"
	}
	if len(open) == 1 && held > known {
		i := &o.Items[open[0]]
		i.Seen, i.Witness = held-known, "driver"
	}
	if sum.High > 0 {
		o.Items = append(o.Items, sum)
	}
}

// seenLoading says how many pages of files went after the peak of mapped memory: what fell by about the prediction, and
// not by all that an ending program drops.
func (o *Observation) seenLoading() {
	i := slices.IndexFunc(o.Items, func(i Item) bool { return i.Name == engine.FilePages })
	if i < 0 {
		return
	}
	item, after, fell, peaked := &o.Items[i], units.Bytes(0), false, false
	for _, s := range o.Samples {
		peaked = peaked || s.Mapped == o.Peak.Mapped
		down := o.Peak.Mapped - s.Mapped
		fell = fell || peaked && down > item.Predicted/2 && down < item.Predicted*5/4
		if fell {
			after = max(after, s.Mapped)
		}
	}
	if fell {
		item.Seen, item.Witness = o.Peak.Mapped-after, "kernel"
	}
}

// loaded are the items that are there while weights are loaded; the others come afterwards.
func loaded(name string) bool {
	return slices.Contains([]string{engine.Weights, engine.VisionWeights, engine.RepackedWeights, Process, Libraries,
		engine.Driver, engine.FilePages}, name)
}

// atLeast raises an item to another.
func (i *Item) atLeast(o Item) {
	i.Predicted, i.Low, i.High = max(i.Predicted, o.Predicted), max(i.Low, o.Low), max(i.High, o.High)
}

// withUnknown adds to an estimate what it left out.
func withUnknown(items []engine.Item) []engine.Item {
	all := slices.Clone(items)
	for _, u := range unknown {
		if !slices.ContainsFunc(all, func(i engine.Item) bool { return i.Name == u.Name }) {
			all = append(all, u)
		}
	}
	return all
}

// pinned memory for a card is neither: the kernel counts it as shared, so that it is in the total alone.
const pinned = "pinned"

// partOf is the sum that an item on the host belongs to.
func partOf(i engine.Item) string {
	named := i.Name == Libraries || i.Name == engine.FilePages
	if i.Backing == engine.BackedPinned {
		return pinned
	}
	if named || i.Backing == engine.BackedFile || i.Backing == engine.BackedLocked {
		return Mapped
	}
	return Anonymous
}

// seen puts the kernel's accounts beside the sums and beside what nobody else counts.
func (o *Observation) seen(sums map[string]*Item, known map[string]units.Bytes) {
	for i := range o.Items {
		item, part := &o.Items[i], Anonymous
		peak := o.Peak.Anonymous
		if item.Name == Libraries {
			part, peak = Mapped, o.Peak.Mapped
		}
		if (item.Name == Process || item.Name == Libraries) && peak > known[part] {
			item.Seen, item.Witness = peak-known[part], "kernel"
		}
	}
	for _, s := range []struct {
		name string
		peak units.Bytes
	}{{Anonymous, o.Peak.Anonymous}, {Mapped, o.Peak.Mapped}, {Total, o.Peak.Resident}} {
		item := sums[s.name]
		if o.Peak.Resident > 0 {
			item.Seen, item.Witness = s.peak, "kernel"
		}
		o.Items = append(o.Items, *item)
	}
}

func (i *Item) add(e engine.Item) {
	i.Predicted, i.Low, i.High = i.Predicted+e.Bytes, i.Low+e.Low, i.High+e.High
}

func saidOf(said []engine.Item, name, where string) (sum units.Bytes, found bool) {
	for _, i := range said {
		if i.Name == name && i.Where == where {
			sum, found = sum+i.Bytes, true
		}
	}
	return sum, found
}

// rate takes how fast the log says that the engine was.
func (o *Observation) rate(a engine.Answered) {
	for _, r := range []struct {
		name       string
		requests   int
		tokens, ms float64
	}{{promptRate, a.Prompts, a.PromptTokens, a.PromptMS}, {decodeRate, a.Replies, a.ReplyTokens, a.ReplyMS}} {
		if r.ms > 0 {
			o.Rates = append(o.Rates, Rate{r.name, r.tokens / r.ms * 1000, int64(r.tokens), r.requests})
		}
	}
}

// Judge holds what was predicted, and what the engine's log says, against what was seen; e is nil where nobody reads
// the log.
func (o *Observation) Judge(e *engine.Engine, predicted *engine.Memory, log []byte) {
	var said []engine.Item
	if e != nil && e.ReadLog != nil {
		items, err := e.ReadLog(bytes.NewReader(log))
		if err != nil {
			o.Warnings = append(o.Warnings, "the engine's log says nothing of memory: "+err.Error())
		}
		said = items
	}
	if e != nil && e.ReadRates != nil {
		o.rate(e.ReadRates(log))
	}
	if predicted != nil {
		o.Compare(predicted, said)
	}
}
