// Package bench puts a benchmark together: workloads, allocators by name, runs over bare addresses and over touched
// memory, and the share of them that falls to one shard.
//
// The two kinds of run are kept apart and never compared: over addresses every policy places the same blocks in a bare
// range; over touched memory every page of a new block is written, each run in a process of its own. What was left out
// lies in the notes, with why.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/replay/touched"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// overAddresses are the allocators that run over addresses unless told otherwise.
var overAddresses = []string{"vlmem", "bestfit", "buddy", "pytorch"}

// Names are all allocators that can be run.
func Names() []string {
	var names []string
	for _, name := range slices.Concat(overAddresses, alloc.PolicyNames(), touched.Names) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// CheckNames refuses names that are none of Names, or there twice.
func CheckNames(names []string) error {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("--allocators names %s twice", name)
		}
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("unknown allocator %q: want some of %s", name, strings.Join(Names(), ", "))
		}
	}
	return nil
}

// Boundless is a range that no trace fills, so that no request is refused for lack of addresses: 4 TiB.
const Boundless = 1 << 42

// Options say what is run.
type Options struct {
	Allocators []string // by name; none for those that run unless told otherwise
	Granule    int64    // what a bare range commits and gives back at a time
	Capacity   int64    // of a bare range, bytes
	Repeats    int      // timed runs of each allocator; 0 takes no times
	Touch      bool     // write every page too
	Free       func() units.Bytes
	Yardstick  func() // work that times are divided by; nil for none
	// Progress announces a part of the work and returns what shows its steps, and what ends it.
	Progress func(what string) (set func(done, of int), end func())
}

// Result is what was seen.
type Result struct {
	Results []replay.Summary
	Notes   []string
}

// Bound sets what a bare range commits at a time, and, where a limit is given, how much may be reserved.
func (o *Options) Bound(granule, limit string) error {
	g, err := units.ParseBytes(granule)
	if err != nil || g < 512 || g&(g-1) != 0 {
		return fmt.Errorf("--granule %s: want a power of two from 512 B up, such as 4KiB or 2MiB", granule)
	}
	o.Granule = int64(g)
	if limit == "" {
		return nil
	}
	l, err := units.ParseBytes(limit)
	if err != nil || l < 64*units.MiB || l > Boundless {
		return fmt.Errorf("--limit %s: want 64 MiB to 4 TiB, such as 8GiB", limit)
	}
	o.Capacity = int64(l)
	return nil
}

// Run adds the runs of a trace, or those of the share, to the result until ctx ends.
func (o *Options) Run(ctx context.Context, t *trace.Trace, share *shard.Share, into *Result) error {
	p, err := replay.Compile(t)
	if err != nil {
		return err
	}
	entrants, err := o.entrants(t)
	if err != nil {
		return err
	}
	share.Workload(&p)
	stopped, err := o.addresses(ctx, &p, entrants, share, into)
	if err != nil || stopped || !o.Touch {
		return err
	}
	if err := o.touched(ctx, &p, share, into); err != nil {
		return err
	}
	if len(into.Results) == 0 && share == nil && ctx.Err() == nil {
		return verdict.Unable.Of(errors.New(strings.Join(into.Notes, "; ")))
	}
	return nil
}

// addresses runs over bare addresses; stopped says that ctx ended meanwhile.
func (o *Options) addresses(ctx context.Context, p *replay.Program, entrants []replay.Entrant, share *shard.Share,
	into *Result) (stopped bool, err error) {
	names := make([]string, len(entrants))
	for i, e := range entrants {
		names[i] = e.Name
	}
	group := share.Group(p.Name, replay.Addresses, names)
	entrants = slices.DeleteFunc(entrants, func(e replay.Entrant) bool { return !slices.Contains(group.Names, e.Name) })
	set, end := o.Progress("replaying " + p.Name)
	defer end()
	start := time.Now()
	summaries, err := replay.Compare(ctx, p, entrants, replay.Options{
		Repeats: o.Repeats, Clock: func() time.Duration { return time.Since(start) }, Progress: set, Yardstick: o.Yardstick,
	})
	if stopped = errors.Is(err, context.Canceled); err != nil && !stopped {
		return false, err
	}
	notes := o.coarse(p.LowerBound, summaries)
	share.Done(group, summaries, notes)
	into.Results, into.Notes = append(into.Results, summaries...), append(into.Notes, notes...)
	if stopped {
		into.Notes = append(into.Notes, "interrupted: these results are of the runs that were whole")
	}
	return stopped, nil
}

// touched runs over touched memory.
func (o *Options) touched(ctx context.Context, p *replay.Program, share *shard.Share, into *Result) error {
	wanted := slices.DeleteFunc(slices.Clone(touched.Names), func(name string) bool {
		return len(o.Allocators) > 0 && !slices.Contains(o.Allocators, name)
	})
	group := share.Group(p.Name, replay.Touched, wanted)
	if len(group.Names) == 0 {
		share.Done(group, nil, nil)
		return nil
	}
	set, end := o.Progress("writing every page")
	defer end()
	results, notes, err := touched.Compare(ctx, p, group.Names, o.Free(), o.Repeats, set)
	if err != nil {
		return err
	}
	share.Done(group, results, notes)
	into.Results, into.Notes = append(into.Results, results...), append(into.Notes, notes...)
	return nil
}

// coarse notes that granules are large beside a program: vlmem counts whole ones, the others bytes.
func (o *Options) coarse(lowerBound int64, summaries []replay.Summary) []string {
	if o.Granule*100 < lowerBound || !slices.ContainsFunc(summaries,
		func(s replay.Summary) bool { return s.Allocator == "vlmem" }) {
		return nil
	}
	return []string{fmt.Sprintf("vlmem is counted in granules of %s, %.1f %% of this lower bound each; "+
		"best fit and the buddies in bytes", units.Bytes(o.Granule), 100*float64(o.Granule)/float64(lowerBound))}
}

// entrants opens the chosen allocators over bare addresses. Heaps have no addresses of their own to give, and PyTorch's
// allocator serves cards alone.
func (o *Options) entrants(t *trace.Trace) ([]replay.Entrant, error) {
	names := o.Allocators
	if len(names) == 0 {
		names = overAddresses
	}
	var list []replay.Entrant
	for _, name := range names {
		if name == "malloc" || name == "go" || name == "pytorch" && t.Host {
			continue
		}
		options := alloc.Options{Capacity: o.Capacity, Granule: o.Granule, Alone: true} // a replay is one goroutine
		if name == "plan" {
			var err error
			if options.Plan, err = planned(t); err != nil {
				return nil, err
			}
		}
		open := func() (alloc.Allocator, error) { return alloc.New(name, options) }
		if name == "pytorch" {
			open = func() (alloc.Allocator, error) { return pytorch.New(pytorch.DefaultConfig(), o.Capacity) }
		}
		list = append(list, replay.Entrant{Name: name, Open: open, Streams: name == "pytorch"})
	}
	return list, nil
}

// planned packs the trace itself: what is shown for plan is a program's second run, served from the plan of its first.
func planned(t *trace.Trace) (*alloc.Plan, error) {
	lives, _ := t.Packing(1)
	return alloc.NewPlan(lives, 0, plan.Options{})
}

// timelinePoints is how finely memory over time is recorded: about the pixels of a page's width.
const timelinePoints = 1000

// Limit is the most that may be reserved, 0 where it is boundless.
func (o *Options) Limit() int64 { return o.Capacity % Boundless }

// Timeline records the trace through the first of the chosen allocators that can be walked, and what the others
// reserve.
func (o *Options) Timeline(t *trace.Trace) (*replay.Timeline, error) {
	entrants, err := o.entrants(t)
	if err != nil {
		return nil, err
	}
	line, err := replay.Record(t, entrants[0], timelinePoints)
	for _, e := range entrants[1:] {
		if err == nil {
			err = line.Beside(t, e)
		}
	}
	return line, err
}
