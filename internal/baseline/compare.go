package baseline

import (
	"fmt"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"
	"gonum.org/v1/gonum/stat"

	"github.com/vlmem/vlmem/internal/replay"
)

// Verdict is what a comparison of one metric came to.
type Verdict string

// The verdicts. Missing is a result of the baseline that the new run lacks.
const (
	Same         Verdict = "same"
	Better       Verdict = "better"
	Regressed    Verdict = "regressed"
	Inconclusive Verdict = "inconclusive"
	Missing      Verdict = "missing"
)

// Finding is one metric of one result, before and after.
type Finding struct {
	Workload  string  `json:"workload" yaml:"workload"`
	Allocator string  `json:"allocator" yaml:"allocator"`
	Kind      string  `json:"kind" yaml:"kind"`
	Metric    string  `json:"metric" yaml:"metric"`
	Unit      string  `json:"unit" yaml:"unit"`
	Before    float64 `json:"before" yaml:"before"`
	After     float64 `json:"after" yaml:"after"`
	Change    float64 `json:"change" yaml:"change"`       // after/before − 1
	Threshold float64 `json:"threshold" yaml:"threshold"` // a worse change than this is a regression
	P         float64 `json:"p" yaml:"p"`                 // of the test; 0 for exact counters
	Verdict   Verdict `json:"verdict" yaml:"verdict"`
}

// Comparison is every metric of two runs.
type Comparison struct {
	Findings []Finding `json:"findings" yaml:"findings"`
	Notes    []string  `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// Has reports whether any metric came to v.
func (c Comparison) Has(v Verdict) bool {
	return slices.ContainsFunc(c.Findings, func(f Finding) bool { return f.Verdict == v })
}

// Failed reports whether the run must not pass.
func (c Comparison) Failed() bool { return c.Has(Regressed) || c.Has(Missing) }

// Thresholds are the worst changes that pass, as shares.
type Thresholds struct {
	Time        float64 // of an operation over addresses
	TouchedTime float64 // page faults are the kernel's, and vary with it
	Resident    float64
	Alpha       float64 // of the test of times
}

// DefaultThresholds catch a slowdown of 10 % and pass what an unchanged program does on a busy virtual machine.
var DefaultThresholds = Thresholds{Time: 0.05, TouchedTime: 0.25, Resident: 0.03, Alpha: 0.01}

// Compare sets a run against a baseline.
func Compare(before, after File, t Thresholds) Comparison {
	var c Comparison
	timed := before.Fingerprint == after.Fingerprint
	if !timed {
		c.Notes = append(c.Notes, fmt.Sprintf("times not compared: the baseline is of another machine (%s, this is %s)",
			before.Fingerprint, after.Fingerprint))
	}
	for _, b := range before.Results {
		i := slices.IndexFunc(after.Results, func(a replay.Summary) bool {
			return a.Workload == b.Workload && a.Allocator == b.Allocator && a.Kind == b.Kind
		})
		if i < 0 {
			c.Findings = append(c.Findings, finding(b, "result", "", Missing))
			continue
		}
		a := after.Results[i]
		c.Findings = append(c.Findings, counters(b, a, t)...)
		if timed {
			c.Findings = append(c.Findings, times(b, a, t))
		}
	}
	return c
}

func finding(s replay.Summary, metric, unit string, v Verdict) Finding {
	return Finding{Workload: s.Workload, Allocator: s.Allocator, Kind: s.Kind, Metric: metric, Unit: unit, Verdict: v}
}

// counters compares what does not depend on time.
func counters(b, a replay.Summary, t Thresholds) []Finding {
	exact := func(metric, unit string, before, after, threshold float64) Finding {
		f := finding(b, metric, unit, Same)
		f.Before, f.After, f.Threshold, f.Change = before, after, threshold, change(before, after)
		switch {
		case f.Change > threshold:
			f.Verdict = Regressed
		case f.Change < -threshold:
			f.Verdict = Better
		}
		return f
	}
	if b.Kind == replay.Touched {
		return []Finding{exact("peak_rss", "B", float64(b.PeakReservedBytes), float64(a.PeakReservedBytes), t.Resident)}
	}
	list := []Finding{
		exact("peak_reserved", "B", float64(b.PeakReservedBytes), float64(a.PeakReservedBytes), 0),
		exact("peak_live", "B", float64(b.PeakLiveBytes), float64(a.PeakLiveBytes), 0),
		exact("returned", "B", float64(b.ReturnedBytes), float64(a.ReturnedBytes), 0),
		exact("refused", "requests", float64(b.OOMs), float64(a.OOMs), 0),
	}
	if b.Operations != a.Operations || b.LowerBoundBytes != a.LowerBoundBytes {
		list = append(list, exact("operations", "operations", float64(b.Operations), float64(a.Operations), 0),
			exact("lower_bound", "B", float64(b.LowerBoundBytes), float64(a.LowerBoundBytes), 0))
	}
	return list
}

// change is after/before − 1; from nothing to something is an infinite one.
func change(before, after float64) float64 {
	switch {
	case before == after:
		return 0
	case before == 0:
		return math.Inf(1)
	}
	return after/before - 1
}

// times compares the samples of two results, shown in nanoseconds at the speed that the machine had for the baseline.
func times(b, a replay.Summary, t Thresholds) Finding {
	f := finding(b, "time", "ns/op", Same)
	f.Threshold = t.Time
	if b.Kind == replay.Touched {
		f.Threshold = t.TouchedTime
	}
	old, now := samples(b), samples(a)
	if len(old) == 0 || len(now) == 0 {
		f.Verdict = Inconclusive
		return f
	}
	limits := benchmath.DefaultThresholds
	limits.CompareAlpha = t.Alpha
	f.P = benchmath.AssumeNothing.Compare(benchmath.NewSample(old, &limits), benchmath.NewSample(now, &limits)).P
	speed := 1.0
	if len(b.YardstickNs) > 0 {
		speed = slices.Min(b.YardstickNs)
	}
	f.Before, f.After = speed*median(old), speed*median(now)
	f.Change = change(f.Before, f.After)
	switch uncertain := 2 * (medianError(old) + medianError(now)); {
	case f.P < t.Alpha && f.Change > f.Threshold:
		f.Verdict = Regressed
	case f.P < t.Alpha && f.Change < -f.Threshold:
		f.Verdict = Better
	case f.Change+uncertain > 2*f.Threshold:
		f.Verdict = Inconclusive
	}
	return f
}

// groupSize is how many repeats give one sample, their minimum.
const groupSize = 5

// samples is one figure for each group of repeats, in yardsticks per operation. Touched repeats are few and long: each
// is a group.
func samples(s replay.Summary) []float64 {
	size := groupSize
	if s.Kind == replay.Touched {
		size = 1
	}
	var list []float64
	for i := 0; i < len(s.RepeatNs); i += size {
		end := min(i+size, len(s.RepeatNs))
		yardstick := 1.0
		if end <= len(s.YardstickNs) {
			yardstick = slices.Min(s.YardstickNs[i:end])
		}
		list = append(list, slices.Min(s.RepeatNs[i:end])/yardstick)
	}
	return list
}

func median(values []float64) float64 {
	return stat.Quantile(0.5, stat.Empirical, slices.Sorted(slices.Values(values)), nil)
}

// medianError is the standard error of the median over the median: 0.93 of the middle half's range over √n, as if
// normal.
func medianError(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	low, high := stat.Quantile(0.25, stat.Empirical, sorted, nil), stat.Quantile(0.75, stat.Empirical, sorted, nil)
	return 0.93 * (high - low) / math.Sqrt(float64(len(values))) / median(values)
}
