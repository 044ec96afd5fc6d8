package fleet

import (
	"math"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/workload"
)

// requests is how many of a mix are drawn, always the same ones.
const requests = 1000

// Mix is what is asked of the fleet.
type Mix struct {
	Name      string  `yaml:"name" json:"name"`
	PerSecond float64 `yaml:"requests_per_s" json:"requests_per_s"`
	Busy      float64 `yaml:"busy_at_most" json:"busy_at_most"`
	AtOnce    int     `yaml:"concurrency" json:"concurrency"` // of each machine
}

// Service is how a kind of machine serves the mix with one model.
type Service struct {
	Seconds   speed.Range `yaml:"seconds" json:"seconds"`               // of a machine's time that a request takes
	PerSecond speed.Range `yaml:"requests_per_s" json:"requests_per_s"` // of one machine that is always busy
	Nodes     int         `yaml:"nodes" json:"nodes"`
	Least     int         `yaml:"nodes_low" json:"nodes_low"` // at the fast end of the interval
	Most      int         `yaml:"nodes_high" json:"nodes_high"`
	Spare     float64     `yaml:"spare" json:"spare"`         // share of their time
	Wait      float64     `yaml:"wait_s" json:"wait_s"`       // of a request for a machine, in the mean
	Answer    float64     `yaml:"answer_s" json:"answer_s"`   // of a request that is alone on a machine, in the mean
	Cut       float64     `yaml:"cut_short" json:"cut_short"` // share of the requests that the context is too short for
	Has       int         `yaml:"machines_that_fit" json:"machines_that_fit"`
}

func describe(asked *Asked) *Mix {
	if asked.PerSecond == 0 {
		asked.PerSecond = asked.Requests.Arrivals.PerSecond
	}
	return &Mix{asked.Requests.Name, asked.PerSecond, asked.Busy, asked.Limits.Concurrency}
}

// drawn is requests of a mix as one model sees them.
type drawn struct {
	model *profile.Model
	list  []workload.Served
}

func draw(m *profile.Model, mix *profile.Mix) (*drawn, error) {
	d := &drawn{model: m}
	for r, err := range workload.Draw(m, mix, 0) {
		if err != nil {
			return nil, err
		}
		if d.list = append(d.list, r); len(d.list) == requests {
			break
		}
	}
	return d, nil
}

// amounts are what one request, or the mean one, asks of a machine.
type amounts struct {
	patches, prompt, output, cached float64 // cached: tokens in the cache, summed over the steps
}

// within is a request cut to the limits, and whether it was.
func within(r workload.Served, limit profile.Grid, context int) (a amounts, cut bool) {
	tokens := r.Prompt
	for _, g := range r.Images {
		frames := max(1, g.Temporal)
		a.patches += float64(min(g.Patches, limit.Patches*frames))
		tokens += min(g.Tokens, limit.Tokens*frames)
	}
	cut = tokens+r.Output > context
	tokens = min(tokens, context-1)
	a.prompt, a.output = float64(tokens), float64(min(r.Output, context-tokens))
	a.cached = a.output * (a.prompt + a.output/2)
	return a, cut
}

// rates are a machine's seconds for each amount.
type rates struct{ patch, prompt, step, cached, batched float64 }

func (r rates) seconds(a amounts) float64 {
	return a.patches*r.patch + a.prompt*r.prompt + a.output*(r.step+r.batched) + a.cached*r.cached
}

// serve says how the answer's machines serve the mix; nothing where the model fits none or its speed is not known.
func (a *Answer) serve(d *drawn, asked Asked) {
	if d == nil || a.placed == nil || a.Speed == nil || a.Speed.Decode.Median <= 0 || a.Speed.Prefill.Median <= 0 {
		return
	}
	limits := a.placed.Limits
	grid, err := d.model.ImageGrid(limits.ImageWidth, limits.ImageHeight)
	if err != nil {
		return // Locate has refused such an image before
	}
	at, alone, ok := a.rates(limits, grid)
	if !ok {
		return
	}
	s := Service{Has: len(a.Fits)}
	var sum, squares, single float64
	var mean amounts
	for _, r := range d.list {
		one, cut := within(r, grid, limits.ContextTokens)
		seconds := at[middle].seconds(one)
		sum, squares, single = sum+seconds, squares+seconds*seconds, single+alone.seconds(one)
		mean.patches, mean.prompt = mean.patches+one.patches, mean.prompt+one.prompt
		mean.output, mean.cached = mean.output+one.output, mean.cached+one.cached
		if cut {
			s.Cut += 1 / float64(len(d.list))
		}
	}
	n := float64(len(d.list))
	s.Seconds = speed.Range{Median: sum / n, Low: at[fast].seconds(mean) / n, High: at[slow].seconds(mean) / n}
	s.PerSecond, s.Answer = s.Seconds.Invert(), single/n
	s.count(asked, squares/n/(sum/n*sum/n)-1)
	a.Service = &s
}

// The ends of an interval.
const (
	middle = iota
	fast
	slow
)

// rates are the machine's at the middle and both ends of the forecast, and those of a request that is alone on it.
func (a *Answer) rates(l advise.Limits, grid profile.Grid) (at [3]rates, alone rates, ok bool) {
	batch := speed.Range{}
	if l.Concurrency > 1 {
		f, err := a.placed.Forecast(speed.Request{Context: float64(l.ContextTokens), Prompt: float64(l.Concurrency),
			UBatch: float64(l.Concurrency)})
		if err != nil || f.Prefill.Median <= 0 {
			return at, alone, false
		}
		batch = f.Prefill
	}
	for end, of := range [3]func(speed.Range) float64{
		func(r speed.Range) float64 { return r.Median },
		func(r speed.Range) float64 { return r.High },
		func(r speed.Range) float64 { return r.Low },
	} {
		f := a.Speed
		step := 1 / of(f.Decode)
		r := rates{prompt: 1 / of(f.Prefill), step: step / float64(l.Concurrency),
			cached: max(0, 1/of(f.DecodeFull)-step) / float64(l.ContextTokens)}
		if f.Image.Median > 0 { // seconds, of which the fast end is the low one
			r.patch = [3]float64{f.Image.Median, f.Image.Low, f.Image.High}[end] / float64(grid.Patches)
		}
		if end == middle {
			alone = r
			alone.step = step
		}
		if batch.Median > 0 {
			r.batched = 1 / of(batch)
		}
		at[end] = r
	}
	return at, alone, true
}

// count says how many machines serve the mix, whose service times have this squared variation.
func (s *Service) count(asked Asked, variation float64) {
	lambda := asked.PerSecond
	nodes := func(seconds float64) int { return max(1, int(math.Ceil(lambda*seconds/asked.Busy-1e-9))) }
	s.Nodes, s.Least, s.Most = nodes(s.Seconds.Median), nodes(s.Seconds.Low), nodes(s.Seconds.High)
	load := lambda * s.Seconds.Median
	s.Spare = 1 - load/float64(s.Nodes)
	a := asked.Requests.Arrivals
	arrivals := a.Variation * a.Variation * float64(max(1, a.Together))
	s.Wait = erlang(s.Nodes, load) * s.Seconds.Median / (float64(s.Nodes) - load) * (arrivals + variation) / 2
}

// erlang is the chance that a request finds n machines busy, load of them in the mean, load < n.
func erlang(n int, load float64) float64 {
	blocked := 1.0 // Erlang's B of 0 servers, and on to n
	for i := 1; i <= n; i++ {
		blocked = load * blocked / (float64(i) + load*blocked)
	}
	busy := load / float64(n)
	return blocked / (1 - busy + busy*blocked)
}
