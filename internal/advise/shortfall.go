package advise

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// Shortfall is the error for a model that does not fit.
type Shortfall struct {
	Model, Hardware string
	Precision       string // the smallest that was tried, or the user's
	Where           string
	Missing         units.Bytes
	Unsure          bool     // the middle of the interval fits: so much is missing at its upper end alone
	Limits          Limits   // at which so much is missing, zero for those that were asked for
	WouldFit        []string // settings or models that would
}

func (s *Shortfall) Error() string {
	precision := s.Precision
	if precision == "" {
		precision = "16 bits"
	}
	verdict := "does not fit %s: %s is missing %s"
	if s.Unsure {
		verdict = "may not fit %s: up to %s is missing %s"
	}
	text := fmt.Sprintf("%s in %s "+verdict, s.Model, precision, s.Hardware, s.Missing, s.Where)
	if s.Limits != (Limits{}) {
		text += fmt.Sprintf(" even at %s tokens and images of %s", units.Grouped(int64(s.Limits.ContextTokens)),
			s.Limits.Image())
	}
	if len(s.WouldFit) > 0 {
		text += "; what would fit: " + strings.Join(s.WouldFit, ", or ")
	}
	return text
}

// Name adds models that would fit; where nothing would, a machine with as much more as is missing.
func (s *Shortfall) Name(models []string) {
	if s.WouldFit = append(s.WouldFit, models...); len(s.WouldFit) == 0 {
		s.WouldFit = []string{fmt.Sprintf("a machine, or a limit of its group, with %s more %s", s.Missing, s.Where)}
	}
}

// nearer keeps an attempt that lacks so much at the upper end of its interval and at its middle, where it lacks less
// than what was kept: one that the middle of its interval lets in goes before all others.
func (s *Shortfall) nearer(most, middle units.Bytes, where, precision string, l Limits) {
	missing, unsure := middle, middle == 0
	if unsure {
		missing = most
	}
	if s.Missing == 0 || unsure && !s.Unsure || unsure == s.Unsure && missing < s.Missing {
		s.Missing, s.Unsure, s.Where, s.Precision, s.Limits = missing, unsure, where, precision, l
	}
}

// shortfall says what is missing and what would fit in its place.
func (in *Inputs) shortfall(p Precision, l load) error {
	b := in.budget(p, 0, l)
	where := "in host memory"
	if b.Device != nil && b.Device.Free.Value < b.Host.Free.Value {
		where = "on the card"
	}
	s := &Shortfall{Model: in.Model.Name, Hardware: in.Hardware.Name, Precision: p.Name, Missing: b.missing(),
		Where: where}
	if tokens := in.largestContext(); tokens > 0 {
		s.WouldFit = append(s.WouldFit, fmt.Sprintf("--context %d with --image %s", tokens, in.Limits.Image()))
	}
	if in.Precision != "" && in.Precision != PrecisionNames()[len(precisions)-1] {
		s.WouldFit = append(s.WouldFit, "a smaller --precision: "+PrecisionNames()[len(precisions)-1])
	}
	return s
}

// largestContext is the longest context, halving down to 256 tokens, that fits with nothing else changed; 0 where none
// does.
func (in *Inputs) largestContext() int {
	for tokens := in.Limits.ContextTokens / 2; tokens >= 256; tokens /= 2 {
		try := *in
		try.Limits.ContextTokens = tokens
		if try.Fits() {
			return tokens
		}
	}
	return 0
}

// Fits reports whether any precision, or the one that was asked for, fits with any number of layers on the card. It
// replays the largest request alone.
func (in *Inputs) Fits() bool {
	_, ok := in.placeAlone()
	return ok
}

// placeAlone places the largest request, without samples.
func (in *Inputs) placeAlone() (Budget, bool) {
	if in.Engine != "" {
		b, err := in.placeServed()
		return b, err == nil
	}
	alone := in.unsampled()
	largest, err := in.Largest(in.Limits)
	if err != nil {
		return Budget{}, false
	}
	pools, err := sizePools(alone, largest)
	if err != nil {
		return Budget{}, false
	}
	return alone.place(largest, pools)
}
