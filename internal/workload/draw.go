package workload

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"

	"github.com/vlmem/vlmem/internal/profile"
)

// Served is one request of a mix.
type Served struct {
	Arrival float64        // seconds since the first moment
	Images  []profile.Grid // after preprocessing
	Prompt  int            // tokens of text
	Output  int            // tokens to generate, at least 1
}

// Draw yields the requests of a mix without end, the same for the same seed. An error, of an image that the model's
// preprocessing refuses, ends it.
func Draw(model *profile.Model, mix *profile.Mix, seed uint64) iter.Seq2[Served, error] {
	return func(yield func(Served, error) bool) {
		d := newDrawing(model, mix, seed)
		for {
			r, err := d.next()
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// drawing is the random choices of one mix.
type drawing struct {
	model   *profile.Model
	mix     *profile.Mix
	random  *rand.Rand
	drawn   int
	arrival float64 // of the latest request
}

func newDrawing(model *profile.Model, mix *profile.Mix, seed uint64) *drawing {
	const mixStream = 0x766c6d656d // any constant: other uses of the same seed take another
	return &drawing{model: model, mix: mix, random: rand.New(rand.NewPCG(seed, mixStream))}
}

func (d *drawing) next() (Served, error) {
	if d.drawn%max(d.mix.Arrivals.Together, 1) == 0 {
		d.arrival += d.gap()
	}
	d.drawn++
	r, err := d.request()
	r.Arrival = d.arrival
	return r, err
}

// gap is the time between arrivals, in seconds: gamma distributed with shape 1/cv² and the mean that keeps the rate.
func (d *drawing) gap() float64 {
	a := d.mix.Arrivals
	shape := 1 / (a.Variation * a.Variation)
	mean := float64(max(a.Together, 1)) / a.PerSecond
	return d.gamma(shape) * mean / shape
}

// gamma draws from a gamma distribution of this shape and scale 1, by Marsaglia and Tsang's method; shapes below 1 are
// drawn one higher and thinned by a power.
func (d *drawing) gamma(shape float64) float64 {
	if shape < 1 {
		return d.gamma(shape+1) * math.Pow(d.random.Float64(), 1/shape)
	}
	a := shape - 1.0/3
	for {
		x := d.random.NormFloat64()
		v := 1 + x/math.Sqrt(9*a)
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-d.random.Float64()) < x*x/2+a-a*v+a*math.Log(v) {
			return a * v
		}
	}
}

func (d *drawing) request() (Served, error) {
	draw := func(of *profile.Distribution) int { return of.Quantile(d.random.Float64()) }
	r := Served{Prompt: draw(&d.mix.Prompt), Output: max(draw(&d.mix.Output), 1)}
	for range draw(&d.mix.Images) {
		grid, err := d.image(draw)
		if err != nil {
			return r, fmt.Errorf("drawing from mix %s: %w", d.mix.Name, err)
		}
		if grid.Tokens > 0 {
			r.Images = append(r.Images, grid)
		}
	}
	if len(r.Images) == 0 {
		r.Prompt = max(r.Prompt, 1)
	}
	return r, nil
}

func (d *drawing) image(draw func(*profile.Distribution) int) (profile.Grid, error) {
	if d.mix.Tokens != nil {
		return gridOf(d.model, draw(d.mix.Tokens)), nil
	}
	size := d.mix.Size(d.random.Float64())
	if d.mix.Seconds == nil {
		return d.model.ImageGrid(size.Width, size.Height)
	}
	frames := d.model.SampledFrames(float64(draw(d.mix.Seconds)))
	return d.model.VideoGrid(size.Width, size.Height, frames)
}

// gridOf is an image of so many tokens, as near to a square as their number has divisors. Memory depends on the number,
// hardly on the sides.
func gridOf(m *profile.Model, tokens int) profile.Grid {
	v := m.Vision
	if tokens == 0 {
		return profile.Grid{}
	}
	rows := int(math.Sqrt(float64(tokens)))
	for tokens%rows != 0 {
		rows--
	}
	side := v.PatchSize * v.SpatialMergeSize
	return profile.Grid{
		Width: tokens / rows * side, Height: rows * side, Temporal: 1,
		Patches: tokens * v.SpatialMergeSize * v.SpatialMergeSize, Tokens: tokens,
		PatchWidth: v.InChannels * v.TemporalPatchSize * v.PatchSize * v.PatchSize,
	}
}
