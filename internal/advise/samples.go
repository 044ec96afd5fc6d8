package advise

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
)

const (
	maxAspect    = 200 // the longer side over the shorter: more is refused by Qwen's image processor
	minPrompt    = 16  // tokens of text beside the image
	imageMarkers = 2
	decodeSteps  = 8 // enough to see the cache grow; every further step allocates alike
	// SampleRequests follow one another in a sample: what one leaves behind, the next has to live with.
	SampleRequests = 3
	// LeastBeside is the tokens that a context holds beside an image at least.
	LeastBeside = minPrompt + decodeSteps
)

// drawn is one request as it is sampled: image sides in pixels and tokens of text.
type drawn struct{ width, height, images, prompt int }

// request is the trace of one request, for as many users at once as the limits say, in memory that may be reused.
func (in *Inputs) request(a drawn, attention workload.Attention, cache workload.Cache,
	into []trace.Event) (*trace.Trace, error) {
	return workload.Request(in.Model, workload.Options{
		Width: a.width, Height: a.height, Images: a.images, PromptTokens: max(a.prompt, minPrompt), DecodeTokens: decodeSteps,
		Batch: in.Limits.Concurrency, DType: Activation(in.Hardware), Attention: attention, Cache: cache, Into: into,
	})
}

// LargestRequest is a request with the limits' image and text to the end of the context.
func LargestRequest(in *Inputs, attention workload.Attention) func(Limits) (Demand, error) {
	return func(l Limits) (Demand, error) {
		at := *in
		at.Limits = l
		grid, err := at.Model.ImageGrid(l.ImageWidth, l.ImageHeight)
		if err != nil {
			return nil, err
		}
		t, err := at.request(drawn{l.ImageWidth, l.ImageHeight, 1, roomBeside(l, grid)}, attention, workload.Static, nil)
		if err != nil {
			return nil, err
		}
		return replay.Split(t)
	}
}

// StoreCache gives a request's cache the type that the configuration stores it in, where a machine computes in another:
// without a card activations have 32 bits.
func (in *Inputs) StoreCache(d Demand) {
	program := d[memory.KVCache.String()]
	stored, computed := in.Model.KVBytesPerToken(in.cacheType()), in.Model.KVBytesPerToken(Activation(in.Hardware))
	if program == nil || stored == computed {
		return
	}
	scaled := *program
	scaled.Steps = slices.Clone(program.Steps)
	for i := range scaled.Steps {
		scaled.Steps[i].Size = scaled.Steps[i].Size * int64(stored) / int64(computed)
	}
	d[memory.KVCache.String()] = &scaled
}

// roomBeside is the tokens of text that the context holds beside an image.
func roomBeside(l Limits, grids ...profile.Grid) int {
	left := l.ContextTokens - decodeSteps
	for _, g := range grids {
		left -= g.Tokens + imageMarkers
	}
	return left
}

// Draw replays one sequence of requests for each seed from first on, of a mix or, where it is nil, evenly within the
// limits, through the policies of each pool. The same seed draws the same requests, and the cores share the seeds: the
// result is the same for any number of them.
func (in *Inputs) Draw(mix *profile.Mix, first, count int, under Policies,
	progress func(done, of int)) ([]Seen, error) {
	list := make([]Seen, count)
	seeds := make(chan int, count)
	for i := range count {
		seeds <- i
	}
	close(seeds)
	var mu sync.Mutex // over done, and progress
	done := 0
	var work errgroup.Group
	for range min(count, runtime.GOMAXPROCS(0)) {
		work.Go(func() (err error) {
			var s sampler
			for i := range seeds {
				if list[i], err = s.sample(in, mix, uint64(first+i), under); err != nil {
					return err
				}
				mu.Lock()
				done++
				progress(done, count)
				mu.Unlock()
			}
			return nil
		})
	}
	return list, work.Wait()
}

// sampler replays seeds one after another in the same memory.
type sampler struct {
	events []trace.Event
	parts  replay.Parts
}

// sample is what the sequence of one seed asks of the pools.
func (s *sampler) sample(in *Inputs, mix *profile.Mix, seed uint64, under Policies) (Seen, error) {
	s.parts.Reset()
	for t, err := range in.requests(mix, seed, workload.Static, s.events) {
		if err != nil {
			return nil, err
		}
		if err := s.parts.Add(t); err != nil {
			return nil, err
		}
		s.events = t.Events
	}
	return See(s.parts.Programs(), under)
}

// Sequence is the requests of one seed as one trace.
func (in *Inputs) Sequence(mix *profile.Mix, seed uint64, cache workload.Cache) (*trace.Trace, error) {
	sequence := &trace.Trace{Name: "sample"}
	for t, err := range in.requests(mix, seed, cache, nil) {
		if err != nil {
			return nil, err
		}
		sequence.Events = append(sequence.Events, t.Events...)
		sequence.Slots = max(sequence.Slots, t.Slots)
	}
	return sequence, nil
}

// requests are those of one seed, one after another, in memory that may be reused: each is overwritten by the next.
func (in *Inputs) requests(mix *profile.Mix, seed uint64, cache workload.Cache,
	memory []trace.Event) iter.Seq2[*trace.Trace, error] {
	return func(yield func(*trace.Trace, error) bool) {
		draw := evenly(in)
		if mix != nil {
			draw = fromMix(in, *mix)
		}
		requests, err := draw(seed)
		if err != nil {
			yield(nil, err)
			return
		}
		for _, a := range requests {
			t, err := in.request(a, workload.Flash, cache, memory)
			if !yield(t, err) || err != nil {
				return
			}
			memory = t.Events
		}
	}
}

// evenly draws within the limits: images of a quarter to all of the largest area, upright as often as wide, and prompts
// from short to the rest of the context.
func evenly(in *Inputs) func(uint64) ([]drawn, error) {
	return func(seed uint64) ([]drawn, error) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := in.Limits
		var list []drawn
		for range SampleRequests {
			scale := 0.5 + 0.5*random.Float64()
			a := drawn{width: max(32, int(scale*float64(l.ImageWidth))), height: max(32, int(scale*float64(l.ImageHeight))),
				images: 1}
			if random.IntN(2) == 1 {
				a.width, a.height = a.height, a.width
			}
			grid, err := in.Model.ImageGrid(a.width, a.height)
			if err != nil {
				return nil, err
			}
			a.prompt = minPrompt + random.IntN(max(1, roomBeside(l, grid)-minPrompt))
			list = append(list, a)
		}
		return list, nil
	}
}

// fromMix draws from a mix and cuts what exceeds the limits, as a service that enforces them would: images are shrunk
// to the largest area, those that the context has no room for are left out, and so is text.
func fromMix(in *Inputs, mix profile.Mix) func(uint64) ([]drawn, error) {
	return func(seed uint64) ([]drawn, error) {
		var list []drawn
		for served, err := range workload.Draw(&in.Model, &mix, seed) {
			if err != nil {
				return nil, err
			}
			a, err := cut(in, served)
			if err != nil {
				return nil, err
			}
			if list = append(list, a); len(list) == SampleRequests {
				break
			}
		}
		return list, nil
	}
}

// cut fits a request of a mix into the limits. All its images take the size of its largest.
func cut(in *Inputs, r workload.Served) (drawn, error) {
	var largest profile.Grid
	for _, g := range r.Images {
		if g.Patches/max(1, g.Temporal) > largest.Patches/max(1, largest.Temporal) {
			largest = g
		}
	}
	if len(r.Images) == 0 {
		return drawn{prompt: min(r.Prompt, in.Limits.ContextTokens-decodeSteps)}, nil
	}
	allowed, err := in.Model.ImageGrid(in.Limits.ImageWidth, in.Limits.ImageHeight)
	if err != nil {
		return drawn{}, err
	}
	a := drawn{width: largest.Width, height: largest.Height}
	if max(a.width, a.height) > maxAspect*min(a.width, a.height) { // a mix that knows tokens alone lays them in a row
		side := max(32, int(math.Sqrt(float64(a.width)*float64(a.height))))
		a.width, a.height = side, side
	}
	if largest.Width*largest.Height > allowed.Width*allowed.Height {
		a.width, a.height = allowed.Width, allowed.Height
	}
	grid, err := in.Model.ImageGrid(a.width, a.height)
	if err != nil {
		return drawn{}, err
	}
	left := in.Limits.ContextTokens - decodeSteps - minPrompt
	a.images = max(1, min(len(r.Images), left/(grid.Tokens+imageMarkers)))
	a.prompt = min(r.Prompt, left+minPrompt-a.images*(grid.Tokens+imageMarkers))
	return a, nil
}

// Seeds refuses numbers of sampled requests that say nothing, or take days.
func Seeds(n int) error {
	if n < 1 || n > 10000 {
		return fmt.Errorf("--seeds %d: want 1 to 10000", n)
	}
	return nil
}

// Check refuses limits that no request fits, or that the model does not have. Its messages name the flags that limits
// are given with.
func (l Limits) Check(m *profile.Model) error {
	grid, err := m.ImageGrid(l.ImageWidth, l.ImageHeight)
	if err != nil {
		return fmt.Errorf("--image %s: %w", l.Image(), err)
	}
	switch least := grid.Tokens + LeastBeside; {
	case l.ContextTokens < least:
		return fmt.Errorf("--context %d: an image of %s takes %d tokens; want at least %d", l.ContextTokens, l.Image(),
			grid.Tokens, least)
	case l.ContextTokens > m.Text.MaxPositions:
		return fmt.Errorf("--context %d: %s has %d positions", l.ContextTokens, m.Name, m.Text.MaxPositions)
	case l.Concurrency < 1 || l.Concurrency > 1024:
		return fmt.Errorf("--concurrency %d: want 1 to 1024", l.Concurrency)
	}
	return nil
}

// Check refuses what cannot be wanted.
func (w Want) Check() error {
	switch {
	case !slices.Contains(Preferences, w.Prefer):
		return fmt.Errorf("unknown --prefer %q: want %s", w.Prefer, strings.Join(Preferences, ", "))
	case !(w.TokensPerS >= 0 && w.TokensPerS < 1e6):
		return fmt.Errorf("--min-tokens-per-second %g: want 0 to a million", w.TokensPerS)
	case !(w.FirstTokenS >= 0 && w.FirstTokenS < 1e6):
		return fmt.Errorf("--max-first-token %g: want 0 to a million seconds", w.FirstTokenS)
	}
	return nil
}
