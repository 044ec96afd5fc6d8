package advise

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Placement is where a model lies on a machine by the budget of a configuration, with what makes a configuration left
// out: pools, tiles, samples. Limits are those that the choice fits at.
type Placement struct {
	Choice
	Limits Limits

	in  Inputs
	lay speed.Lay
}

// Locate is the choice that Make would take after Settle, for a model that Serving names an engine for. The error is a
// *Shortfall where the model does not fit, and an *engine.Refusal where the engine cannot run on the card.
func Locate(in Inputs) (Placement, error) {
	if in.Engine == "" {
		return Placement{}, fmt.Errorf("%s runs no %s: what it takes there is not known", engine.Anywhere().Name,
			in.Model.Name)
	}
	e, err := engine.Lookup("engine", in.Engine, deployable)
	if err != nil {
		return Placement{}, err
	}
	d, err := in.settleSoon(e)
	if err != nil {
		return Placement{}, err
	}
	in.Limits = d.Limits
	p := Placement{Choice: in.laidOut(d.Memory.Quant, in.account(&d)), Limits: d.Limits, in: in,
		lay: LayOf(&in.Model, d.Memory, d.Options.HostLayers)}
	p.Context, p.Speed = in.mostContext(e, &d), in.forecastServed(&d)
	return p, nil
}

// settleSoon is settleOn that looks at the limits as they are, and then whether the smallest weights fit at the
// smallest, before all that lies between: where they do not, nothing does.
func (in *Inputs) settleSoon(e *engine.Engine) (Deployment, error) {
	least, quants := in.Limits, in.quants(e)
	for l := range in.shrinking() {
		least = l
	}
	for _, l := range []Limits{in.Limits, least} {
		if l != least && in.hopeless(e) {
			continue
		}
		at := *in
		at.Limits, at.Given = l, append(slices.Clone(in.Given), "context", "image")
		if l == least && l != in.Limits {
			at.Precision = quants[len(quants)-1]
		}
		d, short, err := at.settleOn(e)
		switch {
		case err != nil:
			return d, err
		case short != nil && l == least:
			return d, short
		case short == nil && l == in.Limits:
			return d, nil
		}
	}
	d, _, err := in.settleOn(e)
	return d, err
}

// hopeless reports whether the smallest weights alone are more than card and host hold together, whatever the limits.
func (in *Inputs) hopeless(e *engine.Engine) bool {
	quants := in.quants(e)
	return in.tooMuch(e, quants[len(quants)-1])
}

// tooMuch reports whether weights alone are more than card and host hold together.
func (in *Inputs) tooMuch(e *engine.Engine, quant string) bool {
	all := attempt{limits: in.Limits, quant: quant}
	if in.gpu() != nil {
		all.hostLayers = in.Model.Text.Blocks() + 1 // where none is held twice
	}
	all = in.all(e, all, []engine.Saving{engine.SmallTower})
	mem, err := in.estimate(e, in.options(e, all))
	if err != nil {
		return false // settleOn says why
	}
	var weights units.Bytes
	for _, i := range mem.Items {
		if i.Name == engine.Weights || i.Name == engine.VisionWeights {
			weights += i.Low
		}
	}
	room := in.room()
	return weights > room.device+room.host
}

// Forecast is how fast the placed model answers another request than one at the limits.
func (p *Placement) Forecast(r speed.Request) (speed.Forecast, error) {
	h := p.in.Hardware
	if p.in.gpu() == nil {
		h.GPUs = nil
	}
	return p.in.forecastOf(h, p.lay, p.Precision, r)
}
