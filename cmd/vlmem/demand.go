package main

import (
	"math"
	"math/rand/v2"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
)

const (
	maxAspect      = 200
	minPrompt      = 16 // tokens of text beside the image
	imageMarkers   = 2
	decodeSteps    = 8 // enough to see the cache grow; every further step allocates alike
	sampleRequests = 3 // in a row: what one leaves behind, the next has to live with
)

// asked is one request as it is sampled: image sides in pixels and tokens of text.
type asked struct{ width, height, images, prompt int }

// request is the trace of one request, for as many users at once as the limits say.
func request(in *advise.Inputs, a asked, attention workload.Attention, cache workload.Cache) (*trace.Trace, error) {
	return workload.Request(in.Model, workload.Options{
		Width: a.width, Height: a.height, Images: a.images, PromptTokens: max(a.prompt, minPrompt), DecodeTokens: decodeSteps,
		Batch: in.Limits.Concurrency, DType: advise.Activation(in.Hardware), Attention: attention, Cache: cache,
	})
}

// largestRequest is a request with the limits' image and text to the end of the context.
func largestRequest(in *advise.Inputs, attention workload.Attention) func(advise.Limits) (advise.Demand, error) {
	return func(l advise.Limits) (advise.Demand, error) {
		at := *in
		at.Limits = l
		grid, err := at.Model.ImageGrid(l.ImageWidth, l.ImageHeight)
		if err != nil {
			return nil, err
		}
		t, err := request(&at, asked{l.ImageWidth, l.ImageHeight, 1, room(l, grid)}, attention, workload.Static)
		if err != nil {
			return nil, err
		}
		return replay.Split(t)
	}
}

// room is the tokens of text that the context holds beside an image.
func room(l advise.Limits, grids ...profile.Grid) int {
	left := l.ContextTokens - decodeSteps
	for _, g := range grids {
		left -= g.Tokens + imageMarkers
	}
	return left
}

// samples draws one sequence of requests for each seed from first on. The same seed draws the same requests.
func (o *adviseOptions) samples(env *environment, in *advise.Inputs, first, count int) ([]advise.Demand, error) {
	bar := env.progress("sampling requests")
	defer bar.close()
	var list []advise.Demand
	for i := range count {
		t, err := o.sequence(in, uint64(first+i), workload.Static)
		if err != nil {
			return nil, err
		}
		d, err := replay.Split(t)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
		bar.set(i+1, count)
	}
	return list, nil
}

// sequence is the requests of one seed, one after another.
func (o *adviseOptions) sequence(in *advise.Inputs, seed uint64, cache workload.Cache) (*trace.Trace, error) {
	draw := evenly(in)
	if o.mix != "" {
		mix, err := catalog.Mix(o.mix)
		if err != nil {
			return nil, err
		}
		draw = fromMix(in, mix)
	}
	requests, err := draw(seed)
	if err != nil {
		return nil, err
	}
	sequence := &trace.Trace{Name: "sample"}
	for _, a := range requests {
		t, err := request(in, a, workload.Flash, cache)
		if err != nil {
			return nil, err
		}
		sequence.Events = append(sequence.Events, t.Events...)
		sequence.Slots = max(sequence.Slots, t.Slots)
	}
	return sequence, nil
}

// evenly draws within the limits: images of a quarter to all of the largest area, upright as often as wide, and prompts
// from short to the rest of the context.
func evenly(in *advise.Inputs) func(uint64) ([]asked, error) {
	return func(seed uint64) ([]asked, error) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := in.Limits
		var list []asked
		for range sampleRequests {
			scale := 0.5 + 0.5*random.Float64()
			a := asked{width: max(32, int(scale*float64(l.ImageWidth))), height: max(32, int(scale*float64(l.ImageHeight))),
				images: 1}
			if random.IntN(2) == 1 {
				a.width, a.height = a.height, a.width
			}
			grid, err := in.Model.ImageGrid(a.width, a.height)
			if err != nil {
				return nil, err
			}
			a.prompt = minPrompt + random.IntN(max(1, room(l, grid)-minPrompt))
			list = append(list, a)
		}
		return list, nil
	}
}

// fromMix draws from a mix and cuts what exceeds the limits, as a service that enforces them would: images are shrunk
// to the largest area, those that the context has no room for are left out, and so is text.
func fromMix(in *advise.Inputs, mix profile.Mix) func(uint64) ([]asked, error) {
	return func(seed uint64) ([]asked, error) {
		var list []asked
		for served, err := range workload.Draw(&in.Model, &mix, seed) {
			if err != nil {
				return nil, err
			}
			a, err := cut(in, served)
			if err != nil {
				return nil, err
			}
			if list = append(list, a); len(list) == sampleRequests {
				break
			}
		}
		return list, nil
	}
}

// cut fits a request of a mix into the limits. All its images take the size of its largest.
func cut(in *advise.Inputs, r workload.Served) (asked, error) {
	var largest profile.Grid
	for _, g := range r.Images {
		if g.Patches/max(1, g.Temporal) > largest.Patches/max(1, largest.Temporal) {
			largest = g
		}
	}
	if len(r.Images) == 0 {
		return asked{prompt: min(r.Prompt, in.Limits.ContextTokens-decodeSteps)}, nil
	}
	allowed, err := in.Model.ImageGrid(in.Limits.ImageWidth, in.Limits.ImageHeight)
	if err != nil {
		return asked{}, err
	}
	a := asked{width: largest.Width, height: largest.Height}
	if max(a.width, a.height) > maxAspect*min(a.width, a.height) { // a mix that knows tokens alone lays them in a row
		side := max(32, int(math.Sqrt(float64(a.width)*float64(a.height))))
		a.width, a.height = side, side
	}
	if largest.Width*largest.Height > allowed.Width*allowed.Height {
		a.width, a.height = allowed.Width, allowed.Height
	}
	grid, err := in.Model.ImageGrid(a.width, a.height)
	if err != nil {
		return asked{}, err
	}
	left := in.Limits.ContextTokens - decodeSteps - minPrompt
	a.images = max(1, min(len(r.Images), left/(grid.Tokens+imageMarkers)))
	a.prompt = min(r.Prompt, left+minPrompt-a.images*(grid.Tokens+imageMarkers))
	return a, nil
}
