package profile

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// MixSchema is the version that mix files name in their schema key.
const MixSchema = "vlmem/mix/v1"

// Mix is what a service is asked over time: when requests arrive, the images and text they bring, the text they get
// back, and how the service takes them on. Images are given by one of three: sides in pixels before preprocessing,
// tokens as a service counted them, or videos by length.
type Mix struct {
	Schema   string        `yaml:"schema" json:"schema"`
	Name     string        `yaml:"name" json:"name"`
	Arrivals Arrivals      `yaml:"arrivals" json:"arrivals"`
	Images   Distribution  `yaml:"images" json:"images"`                       // per request
	Sizes    []ImageSize   `yaml:"sizes,omitempty" json:"sizes,omitempty"`     // of an image or a video's frames
	Tokens   *Distribution `yaml:"tokens,omitempty" json:"tokens,omitempty"`   // of an image, instead of sizes
	Seconds  *Distribution `yaml:"seconds,omitempty" json:"seconds,omitempty"` // each image is a video of this length
	Prompt   Distribution  `yaml:"prompt" json:"prompt"`                       // tokens of text
	Output   Distribution  `yaml:"output" json:"output"`                       // tokens generated
	Service  Service       `yaml:"service" json:"service"`
	Source   Sources       `yaml:"source,omitempty" json:"source,omitempty"`
}

// Arrivals is a renewal process: gaps between arrivals follow a gamma distribution, which is a Poisson process at a
// coefficient of variation of 1 and comes in clusters above. Together requests arrive at once.
type Arrivals struct {
	PerSecond float64 `yaml:"per_second" json:"per_second"` // requests
	Variation float64 `yaml:"coefficient_of_variation" json:"coefficient_of_variation"`
	Together  int     `yaml:"together,omitempty" json:"together,omitempty"` // 1 where left out
}

// Service is how requests are taken on: at most Concurrency at a time, in order of arrival, one prefill or one decode
// step of all of them after the other. The two speeds place arrivals between steps; they are assumptions, not
// measurements.
type Service struct {
	Concurrency   int     `yaml:"concurrency" json:"concurrency"`
	StepSeconds   float64 `yaml:"step_seconds" json:"step_seconds"`   // of one decode step
	PrefillPerSec float64 `yaml:"prefill_per_s" json:"prefill_per_s"` // tokens of prompt and patches of images alike
}

// ImageSize is one size of image with its share.
type ImageSize struct {
	Width  int     `yaml:"width" json:"width"`
	Height int     `yaml:"height" json:"height"`
	Weight float64 `yaml:"weight" json:"weight"`
}

// Distribution is of a count. Exactly one of its forms is given; Min and Max clamp what it yields.
type Distribution struct {
	Constant  *float64     `yaml:"constant,omitempty" json:"constant,omitempty"`
	Lognormal *Lognormal   `yaml:"lognormal,omitempty" json:"lognormal,omitempty"`
	Weighted  [][2]float64 `yaml:"weighted,omitempty,flow" json:"weighted,omitempty"` // value, weight
	// probability, value; linear between
	Quantiles [][2]float64 `yaml:"quantiles,omitempty,flow" json:"quantiles,omitempty"`
	Min       float64      `yaml:"min,omitempty" json:"min,omitempty"`
	Max       float64      `yaml:"max,omitempty" json:"max,omitempty"` // none where 0
}

// Lognormal has a normal logarithm with this deviation around that of the median.
type Lognormal struct {
	Median float64 `yaml:"median" json:"median"`
	Sigma  float64 `yaml:"sigma" json:"sigma"`
}

// mostCount bounds every number of a mix, so that no product of two leaves an int64.
const mostCount = 1e9

// mostImages bounds the images of a request.
const mostImages = 4096

// Quantile is the value below which a share u of the distribution lies, 0 ≤ u < 1, rounded to a whole count.
func (d *Distribution) Quantile(u float64) int {
	v := min(d.continuous(u), d.highest())
	return int(math.Round(max(v, d.Min)))
}

func (d *Distribution) continuous(u float64) float64 {
	switch {
	case d.Constant != nil:
		return *d.Constant
	case d.Lognormal != nil:
		return d.Lognormal.Median * math.Exp(d.Lognormal.Sigma*math.Sqrt2*math.Erfinv(2*u-1))
	case d.Weighted != nil:
		return d.Weighted[pick(d.Weighted, u)][0]
	}
	return interpolate(d.Quantiles, u)
}

// highest is the most that the distribution yields.
func (d *Distribution) highest() float64 {
	most := float64(mostCount)
	switch {
	case d.Constant != nil:
		most = *d.Constant
	case d.Weighted != nil:
		most = slices.MaxFunc(d.Weighted, func(a, b [2]float64) int { return cmp.Compare(a[0], b[0]) })[0]
	case d.Quantiles != nil:
		most = d.Quantiles[len(d.Quantiles)-1][1]
	}
	if d.Max > 0 {
		most = min(most, d.Max)
	}
	return max(most, d.Min)
}

// pick is the index of the entry in which a share u of all weight falls.
func pick(weighted [][2]float64, u float64) int {
	total := 0.0
	for _, w := range weighted {
		total += w[1]
	}
	rest := u * total
	for i, w := range weighted {
		if rest < w[1] {
			return i
		}
		rest -= w[1]
	}
	return len(weighted) - 1
}

func interpolate(knots [][2]float64, u float64) float64 {
	for i := 1; i < len(knots); i++ {
		a, b := knots[i-1], knots[i]
		if u < b[0] {
			return a[1] + (b[1]-a[1])*(u-a[0])/(b[0]-a[0])
		}
	}
	return knots[len(knots)-1][1]
}

// Size is the image size in which a share u of all weight falls.
func (m *Mix) Size(u float64) ImageSize {
	weighted := make([][2]float64, len(m.Sizes))
	for i, s := range m.Sizes {
		weighted[i] = [2]float64{float64(i), s.Weight}
	}
	return m.Sizes[pick(weighted, u)]
}

// DecodeMix reads one mix document. Errors start with name and line.
func DecodeMix(name string, data []byte) (Mix, error) {
	var m Mix
	if err := document(name, data, &m, &m.Schema, MixSchema); err != nil {
		return Mix{}, err
	}
	return m, nil
}

// Validate says what no mix can be. Errors name the key.
func (m *Mix) Validate() error {
	var faults []string
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Sprintf(format, args...))
		}
	}
	for _, f := range []struct {
		key   string
		value float64
	}{
		{"arrivals.per_second", m.Arrivals.PerSecond}, {"arrivals.coefficient_of_variation", m.Arrivals.Variation},
		{"service.concurrency", float64(m.Service.Concurrency)}, {"service.step_seconds", m.Service.StepSeconds},
		{"service.prefill_per_s", m.Service.PrefillPerSec},
	} {
		check(f.value > 0 && f.value <= mostCount, "%s must be above zero and at most %.0e", f.key, mostCount)
	}
	check(m.Arrivals.Together >= 0, "arrivals.together may not be negative")
	check(len(m.Sizes) == 0 || m.Tokens == nil, "sizes and tokens are both given: want one of them")
	check(m.Seconds == nil || len(m.Sizes) > 0, "seconds needs sizes, of the frames")
	noImages := m.Images.Constant != nil && *m.Images.Constant == 0
	check(noImages || len(m.Sizes) > 0 || m.Tokens != nil, "neither sizes nor tokens are given")
	for i, s := range m.Sizes {
		check(s.Width > 0 && s.Height > 0 && s.Weight > 0 && s.Weight <= mostCount,
			"sizes[%d]: width, height and weight must be above zero", i)
	}
	for _, d := range []struct {
		key string
		*Distribution
	}{{"images", &m.Images}, {"tokens", m.Tokens}, {"seconds", m.Seconds}, {"prompt", &m.Prompt}, {"output", &m.Output}} {
		if d.Distribution != nil {
			if err := d.validate(); err != nil {
				faults = append(faults, d.key+": "+err.Error())
			}
		}
	}
	if len(faults) == 0 {
		check(m.Images.highest() <= mostImages, "images: at most %d to a request; set max", mostImages)
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

func (d *Distribution) validate() error {
	forms := 0
	for _, given := range []bool{d.Constant != nil, d.Lognormal != nil, len(d.Weighted) > 0, len(d.Quantiles) > 0} {
		if given {
			forms++
		}
	}
	if forms != 1 {
		return errors.New("want exactly one of constant, lognormal, weighted and quantiles")
	}
	if d.Constant != nil && !isCount(*d.Constant) || !isCount(d.Min) || !isCount(d.Max) {
		return fmt.Errorf("counts must lie between 0 and %.0e", mostCount)
	}
	if d.Max > 0 && d.Max < d.Min {
		return errors.New("max is below min")
	}
	if l := d.Lognormal; l != nil && (!isCount(l.Median) || l.Median == 0 || !isCount(l.Sigma)) {
		return errors.New("lognormal needs a median above zero and a sigma that is not negative")
	}
	return errors.Join(validWeights(d.Weighted), validQuantiles(d.Quantiles))
}

// isCount is false of what is negative, too large or not a number.
func isCount(v float64) bool { return v >= 0 && v <= mostCount }

func validWeights(weighted [][2]float64) error {
	for i, w := range weighted {
		if !isCount(w[0]) || !isCount(w[1]) || w[1] == 0 {
			return fmt.Errorf("weighted[%d]: want a value that is not negative and a weight above zero", i)
		}
	}
	return nil
}

func validQuantiles(knots [][2]float64) error {
	if knots == nil {
		return nil
	}
	if len(knots) < 2 || knots[0][0] != 0 || knots[len(knots)-1][0] != 1 {
		return errors.New("quantiles must begin at probability 0 and end at 1")
	}
	for i, k := range knots {
		if !isCount(k[1]) || i > 0 && (!(k[0] > knots[i-1][0]) || k[1] < knots[i-1][1]) {
			return fmt.Errorf("quantiles[%d]: probabilities must rise and values may not fall or be negative", i)
		}
	}
	return nil
}
