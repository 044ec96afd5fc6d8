package advise

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Want is what the user asks of speed, and what counts first among the choices that give it.
type Want struct {
	Prefer      string  // one of Preferences, "" for precision
	TokensPerS  float64 // least, 0: any
	FirstTokenS float64 // most, 0: any
}

// Slow warns of a model that fits and would write less than one token a second.
const Slow evidence.Code = "slow"

// Preferences are what can count first: the best weights, the rate, or room for context.
var Preferences = []string{"precision", "speed", "context"}

// Choice is one precision and where it lies, with what it gives.
type Choice struct {
	Model     string          `json:"model"`
	Precision string          `json:"precision"`
	Layers    int             `json:"layers_on_device"`
	Of        int             `json:"of_layers"`
	Where     string          `json:"where"`
	Context   int             `json:"context_tokens"`  // most that there is room for with the settings as they are
	Speed     *speed.Forecast `json:"speed,omitempty"` // nil: not known
	Chosen    bool            `json:"chosen"`
	Verdict   string          `json:"verdict"`
	Rooms     []Room          `json:"rooms,omitempty"` // by size of image; none where no engine serves

	precision Precision
	budget    Budget
}

// TooSlow says that no choice is as fast as was asked.
type TooSlow struct {
	Model   string
	Want    Want
	Fastest Choice
}

func (e *TooSlow) Error() string {
	asked := fmt.Sprintf("%g tokens a second", e.Want.TokensPerS)
	if e.Want.FirstTokenS > 0 {
		asked = fmt.Sprintf("a first token within %g s", e.Want.FirstTokenS)
		if e.Want.TokensPerS > 0 {
			asked = fmt.Sprintf("%g tokens a second and %s", e.Want.TokensPerS, asked)
		}
	}
	f := e.Fastest.Speed
	return fmt.Sprintf("no precision of %s gives %s here: the fastest, %s, writes %.3g tokens a second (%.3g to %.3g) "+
		"and the first token comes after %.3g s; a smaller model, a shorter context or a smaller image would be faster",
		e.Model, asked, e.Fastest.Precision, f.Decode.Median, f.Decode.Low, f.Decode.High, f.FirstToken.Median)
}

// choices are the precisions to try that fit, by falling quality, each with as many layers on the card as fit.
func (in *Inputs) choices(l load) []Choice {
	if in.Engine != "" {
		return in.servedChoices()
	}
	var list []Choice
	for _, p := range in.allowed() {
		if b := in.split(p, l); b.fits() {
			list = append(list, in.choice(p, b))
		}
	}
	return list
}

func (in *Inputs) choice(p Precision, b Budget) Choice {
	c := in.laidOut(p.Name, b)
	c.Context = in.Limits.ContextTokens + in.moreTokens(&b)
	c.Speed, c.precision = in.forecast(p, b.LayersOnDevice.Value), p
	return c
}

// laidOut is a choice of unknown speed.
func (in *Inputs) laidOut(precision string, b Budget) Choice {
	c := Choice{Model: in.Model.Name, Precision: precision, Layers: b.LayersOnDevice.Value, Of: in.Model.Text.Layers,
		Where: "host", Verdict: b.verdictWords(), budget: b}
	switch {
	case c.Layers == c.Of:
		c.Where = "card"
	case c.Layers > 0:
		c.Where = fmt.Sprintf("%d of %d layers on the card", c.Layers, c.Of)
	}
	return c
}

// moreTokens is what the fuller place still has room for, within the model's positions.
func (in *Inputs) moreTokens(b *Budget) int {
	place, layers := &b.Host, in.Model.Text.Layers-b.LayersOnDevice.Value
	if b.Device != nil && b.LayersOnDevice.Value > 0 {
		place, layers = b.Device, b.LayersOnDevice.Value
	}
	perToken := in.Model.KVBytesPerToken(in.cacheType()) * units.Bytes(max(1, layers)) / units.Bytes(in.Model.Text.Layers)
	more := int(place.Free.Value/max(1, perToken)) / in.Limits.Concurrency
	return max(0, min(more, in.Model.Text.MaxPositions-in.Limits.ContextTokens))
}

// forecast is how fast a precision writes with so many layers on the card; nil where the machine is not known well
// enough.
func (in *Inputs) forecast(p Precision, layers int) *speed.Forecast {
	all := in.Model.Text.Layers
	l := speed.Lay{KVBytesPerToken: float64(in.Model.KVBytesPerToken(in.cacheType())), HostLayers: float64(all - layers)}
	h := in.Hardware
	if in.gpu() == nil {
		h.GPUs, l.HostLayers = nil, float64(all)
		l.HostBytes = float64(p.FixedBytes + p.LayerBytes*units.Bytes(all))
	} else {
		l.CardBytes = float64(p.FixedBytes + p.LayerBytes*units.Bytes(layers))
		l.HostBytes = float64(p.LayerBytes * units.Bytes(all-layers))
	}
	return in.rate(h, l, p.Name, 0)
}

// usualBatch is the tokens of a prompt that are computed at once unless told.
const usualBatch = 512

// rate is how fast a decoder laid out so writes, with so many tokens of a prompt at once or the usual ones; nil where
// the machine is not known well enough.
func (in *Inputs) rate(h profile.Hardware, l speed.Lay, precision string, batch int) *speed.Forecast {
	r := speed.Request{Context: float64(in.Limits.ContextTokens), Prompt: float64(in.Limits.ContextTokens) / 2,
		UBatch: float64(cmp.Or(batch, usualBatch)), Width: in.Limits.ImageWidth, Height: in.Limits.ImageHeight}
	if grid, err := in.Model.ImageGrid(r.Width, r.Height); err == nil {
		r.Prompt = max(r.Prompt, float64(grid.Tokens))
	}
	f, err := in.forecastOf(h, l, precision, r)
	if err != nil {
		return nil
	}
	return &f
}

// forecastOf is how fast a decoder laid out so answers a request.
func (in *Inputs) forecastOf(h profile.Hardware, l speed.Lay, precision string, r speed.Request) (speed.Forecast,
	error) {
	constants, err := speed.Fitted()
	if err != nil {
		return speed.Forecast{}, err
	}
	kernels := engine.KernelsOf(engine.Anywhere().Name)
	return constants.Forecast(&in.Model, h, l,
		speed.Setting{Engine: kernels, Type: speed.TypeOf(precision)}, r, in.Observed)
}

// meets reports whether a choice gives what is wanted; one of unknown speed meets nothing that is asked.
func (w Want) meets(c Choice) bool {
	if w.TokensPerS == 0 && w.FirstTokenS == 0 {
		return true
	}
	return c.Speed != nil && c.Speed.Decode.Median >= w.TokensPerS &&
		(w.FirstTokenS == 0 || c.Speed.FirstToken.Median <= w.FirstTokenS)
}

// decode is the rate of a choice, 0 where it is not known.
func (c Choice) decode() float64 {
	if c.Speed == nil {
		return 0
	}
	return c.Speed.Decode.Median
}

// prefer picks among the choices: of those that give what is wanted, the one with most of what counts first. Choices
// come by falling precision; of two with as much, the earlier counts.
func (in *Inputs) prefer(choices []Choice) (Choice, string, error) {
	var meet []Choice
	for _, c := range choices {
		if in.Want.meets(c) {
			meet = append(meet, c)
		}
	}
	if len(choices) == 0 {
		return Choice{}, "", errors.New("nothing fits")
	}
	if len(meet) == 0 {
		fastest := slices.MaxFunc(choices, func(a, b Choice) int { return cmp.Compare(a.decode(), b.decode()) })
		if fastest.Speed == nil {
			return Choice{}, "", fmt.Errorf("the speed of %s is not known: its bandwidth is in no profile", in.Hardware.Name)
		}
		return Choice{}, "", &TooSlow{in.Model.Name, in.Want, fastest}
	}
	switch in.Want.Prefer {
	case "speed":
		return slices.MaxFunc(meet, func(a, b Choice) int { return cmp.Compare(a.decode(), b.decode()) }),
			"the fastest that fits", nil
	case "context":
		return slices.MaxFunc(meet, func(a, b Choice) int { return cmp.Compare(a.Context, b.Context) }),
			"leaves most room for context", nil
	}
	return meet[0], "the highest precision as fast as was asked", nil
}

// Wanted reports whether speed decides, so that the precision is not the highest wholly on the card.
func (w Want) Wanted() bool {
	return w.TokensPerS > 0 || w.FirstTokenS > 0 || w.Prefer != "" && w.Prefer != "precision"
}

// Compare lists what of a model fits at the limits, without samples: the best precision for what is wanted, or none.
func Compare(in Inputs) ([]Choice, error) {
	slow := func(c Choice) bool { return !in.Want.meets(c) }
	if in.Engine != "" {
		return slices.DeleteFunc(in.servedChoices(), slow), nil
	}
	largest, err := in.Largest(in.Limits)
	if err != nil {
		return nil, err
	}
	in = in.unsampled()
	pools, err := sizePools(in, largest)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(in.choices(in.weigh(largest, pools)), slow), nil
}

// trade lists the choices and marks the one that the budget took. The error is a *TooSlow where none is as fast as was
// asked.
func (in *Inputs) trade(l load, b *Budget) ([]Choice, error) {
	choices := in.choices(l)
	if in.Want.Wanted() {
		if _, _, err := in.prefer(choices); err != nil {
			return nil, err
		}
	}
	for i, c := range choices {
		choices[i].Chosen = c.Precision == b.Precision.Value && c.Layers == b.LayersOnDevice.Value
		if in.Engine != "" {
			choices[i].Rooms = in.rooms(c.Precision)
		}
	}
	return choices, nil
}

func chosen(choices []Choice) *speed.Forecast {
	for _, c := range choices {
		if c.Chosen {
			return c.Speed
		}
	}
	return nil
}

func fastLine(f *speed.Forecast) string {
	digits := 1
	if f.FirstToken.Median >= 10 {
		digits = 0
	}
	return fmt.Sprintf("fast: about %.3g tokens a second (%.3g to %.3g four times in five), the first after %.*f s",
		f.Decode.Median,
		f.Decode.Low, f.Decode.High, digits, f.FirstToken.Median)
}

// Rates is what a person will see of speed. Each rests on measurements elsewhere; its reason gives the interval.
type Rates struct {
	Decode     Value[float64]  `yaml:"decode_tokens_per_s" json:"decode_tokens_per_s"`
	DecodeFull Value[float64]  `yaml:"decode_full_tokens_per_s" json:"decode_full_tokens_per_s"`
	Prefill    Value[float64]  `yaml:"prefill_tokens_per_s" json:"prefill_tokens_per_s"`
	Image      *Value[float64] `yaml:"image_s,omitempty" json:"image_s,omitempty"`
	FirstToken Value[float64]  `yaml:"first_token_s" json:"first_token_s"`
}

func rates(f *speed.Forecast) *Rates {
	if f == nil || f.Decode.Median <= 0 {
		return nil
	}
	value := func(r speed.Range, why string) Value[float64] {
		return derived(significant(r.Median), fmt.Sprintf("%.3g to %.3g four times in five; %s", r.Low, r.High, why))
	}
	known := fmt.Sprintf("%d measurements of %d sources, class %s", f.Rows, f.Sources, f.Class)
	if f.Thin {
		known += ": an order of magnitude only"
	}
	if f.Observed > 0 {
		known = fmt.Sprintf("moved by what was observed on this machine (%d of writing); ", f.Observed) + known
	}
	r := &Rates{Decode: value(f.Decode, known), DecodeFull: value(f.DecodeFull, "with the context full"),
		Prefill: value(f.Prefill, "reading the prompt"), FirstToken: value(f.FirstToken,
			fmt.Sprintf("image, %s tokens of prompt and a step; loading left out", units.Grouped(int64(f.Prompt))))}
	if f.Image.Median > 0 {
		v := value(f.Image, "from operations alone; few were measured")
		r.Image = &v
	}
	return r
}

// significant keeps three digits.
func significant(v float64) float64 {
	var out float64
	_, _ = fmt.Sscanf(fmt.Sprintf("%.3g", v), "%g", &out)
	return out
}
