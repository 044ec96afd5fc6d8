package advise

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Serving is the engine that a configuration is reckoned for where the user names none: the one that runs on every
// machine, with and without a card. It is "" where that engine does not know the model: the budget is then that of the
// model's own tensors over vlmem's pools.
func Serving(m *profile.Model) string {
	e := engine.Anywhere()
	if _, err := engine.Estimate(e.Name, m, engine.Options{Device: "cpu"}); err != nil {
		return ""
	}
	return e.Name
}

// serve is Deploy at the limits as they are, with the budget as the engine's own items make it.
func (in *Inputs) serve() (Budget, Deployment, error) {
	at := *in
	at.Given = append(slices.Clone(in.Given), "context", "image")
	e, err := engine.Lookup("engine", in.Engine, deployable)
	if err != nil {
		return Budget{}, Deployment{}, err
	}
	d, short, err := at.settleOn(e)
	if short != nil {
		return Budget{}, Deployment{}, short
	}
	if err != nil {
		return Budget{}, Deployment{}, err
	}
	return in.account(&d), d, nil
}

// placeServed is place with the engine's own estimate.
func (in *Inputs) placeServed() (Budget, error) {
	if in.Want.Wanted() && in.held == "" {
		if c, why, err := in.prefer(in.servedChoices()); err == nil {
			return in.settled(c.budget, c.Precision, why), nil
		}
	}
	at := *in
	at.Precision = cmp.Or(in.held, in.Precision)
	b, d, err := at.serve()
	if err != nil {
		return Budget{}, err
	}
	why := "the highest precision that lies wholly on the card"
	switch {
	case in.gpu() == nil:
		why = "the highest precision that lies in host memory"
	case d.Options.HostLayers > 0:
		why = "no precision lies wholly on the card; the smallest, split"
	}
	return in.settled(b, d.Memory.Quant, why), nil
}

// solveServed is placeServed with what would fit where nothing does, which is what Deploy says.
func (in *Inputs) solveServed() (Budget, error) {
	b, err := in.placeServed()
	var short *Shortfall
	if !errors.As(err, &short) {
		return b, err
	}
	open := *in
	if in.asked != nil {
		open.Limits = *in.asked
	}
	d, deployed := Deploy(in.Engine, open)
	if errors.As(deployed, &short) {
		return b, short
	}
	if deployed == nil { // a configuration's budgets are of one card, the engine's own files of all
		short.WouldFit = append(short.WouldFit, fmt.Sprintf("--for %s, in %s over all of the machine's cards", in.Engine,
			d.Memory.Quant))
	}
	return b, err
}

// servedChoices are the engine's precisions that fit at the limits, by falling quality.
func (in *Inputs) servedChoices() []Choice {
	e, err := engine.Lookup("engine", in.Engine, deployable)
	if err != nil {
		return nil
	}
	var list []Choice
	for _, q := range in.quants(e) {
		try := *in
		try.Precision, try.Want = q, Want{}
		b, d, err := try.serve()
		if err != nil {
			continue
		}
		c := in.laidOut(d.Memory.Quant, b)
		c.Context, c.Speed = in.mostContext(e, &d), in.forecastServed(&d)
		list = append(list, c)
	}
	return list
}

// forecastServed is how fast a deployment writes; nil where the machine is not known well enough, and for a pipeline,
// whose stages take turns.
func (in *Inputs) forecastServed(d *Deployment) *speed.Forecast {
	if len(d.Memory.Stages) > 0 {
		return nil
	}
	h := in.Hardware
	if h.GPUs = nil; in.gpu() != nil {
		h.GPUs = []profile.GPU{*cmp.Or(d.Options.GPU, in.gpu())}
	}
	lay := LayOf(&in.Model, d.Memory, d.Options.HostLayers)
	lay.TowerOnHost = d.Options.Llama.NoTower
	return in.rate(h, lay, d.Memory.Quant, d.Options.UBatch)
}

// LayOf is where an estimate puts the decoder, with so many of its layers on the host.
func LayOf(m *profile.Model, mem *engine.Memory, hostLayers int) speed.Lay {
	l := speed.Lay{KVBytesPerToken: float64(m.KVBytesPerToken(profile.FP16)) * engine.CacheBits(mem.KVType) / 16}
	mapped := false // then the repacked weights are copies of these; else they are the rest
	for _, i := range mem.Items {
		mapped = mapped || i.Name == engine.Weights && i.MappedBytes > 0
	}
	for _, i := range mem.Items {
		switch {
		case i.Name != engine.Weights && (i.Name != engine.RepackedWeights || mapped):
		case i.Where == "host":
			l.HostBytes += float64(i.Bytes)
		default:
			l.CardBytes += float64(i.Bytes)
		}
	}
	l.HostLayers = float64(min(hostLayers, m.Text.Layers))
	if mem.Device == "cpu" {
		l.HostLayers = float64(m.Text.Layers)
	}
	return l
}

// account is where every byte goes, by the engine's own items. The head, which counts as one of an engine's layers,
// moves to the host last.
func (in *Inputs) account(d *Deployment) Budget {
	b := Budget{Host: in.host(), verdict: d.Verdict}
	b.Engine = new(derived(in.Engine, "the program that the budget is reckoned for; --for names another"))
	layers := 0
	if in.gpu() != nil {
		b.Device = in.device()
		layers = max(0, in.Model.Text.Layers-d.Options.HostLayers)
		in.fill(b.Device, d.Memory, false)
		if in.unified() {
			b.Host.Capacity.Value = in.leftBeside(b.Device)
		}
	}
	in.fill(&b.Host, d.Memory, true)
	b.LayersOnDevice = derived(layers, fmt.Sprintf("of %d", in.Model.Text.Layers))
	if in.gpu() == nil {
		b.LayersOnDevice = derived(0, "no card")
	}
	if n := d.Settings.ExpertLayers; n > 0 {
		b.ExpertsOnHost = new(derived(n, "the fewest that let the rest lie on the card"))
	}
	if taken := Sparing(d.Savings); len(taken) > 0 {
		b.Savings = new(derived(strings.Join(taken, ", "), "the cheapest that let it fit"))
	}
	b.placed = in.placed(d)
	return b
}

// fill puts an estimate's items of one memory into its account. What is neither of the named ones is the process's or
// the driver's, and takes the place of the round figure that was assumed for the driver.
func (in *Inputs) fill(p *Side, mem *engine.Memory, host bool) {
	other := in.otherRange(p, !host)
	if !host {
		p.Other.Value -= profile.ContextBytes
		other.Low, other.High = other.Low-profile.LeastContextBytes, other.High-profile.MostContextBytes
	}
	sums := map[*Value[units.Bytes]]*Range{}
	i := &p.Intervals
	for v, r := range map[*Value[units.Bytes]]*Range{&p.Weights: &i.Weights, &p.KVCache: &i.KVCache, &p.Vision: &i.Vision,
		&p.Compute: &i.Compute, &p.Pools: &i.Pools, &p.Pinned: &i.Pinned} {
		*v, *r, sums[v] = derived(units.Bytes(0), "none there"), evidence.Between(0, 0, "exact", Derived), r
	}
	p.Pools.Why = in.Engine + " keeps none; the pools below are for a program of yours that uses vlmem's"
	for _, item := range mem.Items {
		if item.Name == engine.FilePages || (item.Where == "host") != host {
			continue
		}
		into := map[string]*Value[units.Bytes]{engine.Weights: &p.Weights, engine.VisionWeights: &p.Weights,
			engine.RepackedWeights: &p.Weights, engine.KVCache: &p.KVCache, engine.Vision: &p.Vision,
			engine.Compute: &p.Compute, engine.Output: &p.Compute}[item.Name]
		if into == nil {
			p.Other.Value += item.Bytes
			other.Low, other.High = other.Low+item.Low, other.High+item.High
			continue
		}
		if into.Value == 0 {
			into.Why = item.Why
		} else {
			into.Why += "; " + item.Why
		}
		into.Value += item.Bytes
		r := sums[into]
		r.Low, r.High = r.Low+item.Low, r.High+item.High
		if r.Low != r.High {
			r.Why = "as far as " + mem.Version + "'s builds differ"
		}
	}
	i.Other = other
	p.settle()
	p.boundFree()
}

// verdict is whether a deployment fits: surely, or under which condition. most is what the estimate is over at the high
// end of its interval.
func (in *Inputs) verdict(mem *engine.Memory, a *attempt, most units.Bytes) string {
	if most > 0 {
		return fmt.Sprintf("fits if it needs no more than the middle of its estimate: at its most, %s too little", most)
	}
	p := in.hostMemory()
	need := a.host
	for _, i := range mem.Items {
		if i.Name != engine.FilePages && (i.Where == "host" || in.unified()) {
			need += i.High
		}
	}
	other := in.otherRange(&p, false)
	if left := p.Capacity.Value - need; need > 0 && left < other.High {
		return fmt.Sprintf("fits if all else takes at most %s of host memory (%s reckoned, at most %s)", left, p.Other.Value,
			other.High)
	}
	return fits
}

// servedClaims holds a configuration's budget against the engine's estimate, made again from what the configuration
// says.
func (in *Inputs) servedClaims(a Advice, v *Verification) error {
	e, err := engine.Lookup("engine", in.Engine, deployable)
	if err != nil {
		return fmt.Errorf("reading budget.engine: %w", err)
	}
	if a.Budget.Device != nil && in.gpu() == nil {
		return nil // present says that no card answers
	}
	at := *in
	if a.Budget.Device == nil {
		at.Hardware.GPUs = nil
	}
	var seen Budget
	for _, rest := range []int{0, 1} { // with all layers on the host, the head may be on the card or not
		try := attempt{limits: in.Limits, quant: at.quants(e)[0]}
		if at.gpu() != nil {
			try.hostLayers = in.Model.Text.Layers - a.Budget.LayersOnDevice.Value + rest
		}
		try.recall(&a.Budget)
		d := Deployment{Options: at.options(e, try), Settings: engine.Settings{ExpertLayers: try.experts}}
		if d.Memory, err = engine.Estimate(e.Name, &in.Model, d.Options); err != nil {
			return err
		}
		seen = at.account(&d)
		if a.Budget.LayersOnDevice.Value > 0 || seen.Host.Weights.Value == a.Budget.Host.Weights.Value {
			break
		}
	}
	if a.Placement != nil && seen.placed != nil {
		a.Placement.held(&a.Budget, seen.placed, v)
	}
	for _, name := range []string{"device", "host"} {
		claimed, now := a.places()[name], (&Advice{Budget: seen}).places()[name]
		if claimed == nil || now == nil {
			continue
		}
		how := in.Engine + "'s estimate, made again"
		v.bytes(name+" weights", claimed.Weights.Value, claimed.Weights.Value, claimed.Weights.Value, now.Weights.Value, how)
		v.bytes(name+" kv_cache", claimed.KVCache.Value, claimed.KVCache.Value, claimed.KVCache.Value, now.KVCache.Value, how)
		v.bytes(name+" vision", claimed.Vision.Value, claimed.Intervals.Vision.Low, claimed.Intervals.Vision.High,
			now.Vision.Value, how)
		v.bytes(name+" compute", claimed.Compute.Value, claimed.Intervals.Compute.Low, claimed.Intervals.Compute.High,
			now.Compute.Value, how)
	}
	return nil
}
