// Package touched runs a program over memory whose every page is written, as a model would, each run in a process of
// its own: resident memory is then one allocator's alone, and nothing that one leaves behind helps or hinders the next.
//
// Runs of several allocators, or of one under several settings, take turns, so that what disturbs the machine meanwhile
// meets all of them. The child is this program again, started with Command; it measures around the run and answers with
// what it saw.
package touched

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/resident"
	"github.com/vlmem/vlmem/internal/rivals/goheap"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/units"
)

// patience ends the repeats of touched runs early: malloc alone can take half a minute over one large image, and
// what more repeats would add to figures that far apart is little.
const patience = 12 * time.Second

// need is what a run of each allocator reserves at most, in lower bounds: the largest overheads seen over the
// recordings and requests of docs/performance.md, and some more.
var need = map[string]float64{"vlmem": 1.3, "malloc": 1.5, "go": 2.5}

// processNeed is what this process and its child take beside: the program, twice, and two Go runtimes.
const processNeed = 64 * units.MiB

// warm touches as much memory as a program needs and lets it go, so that every run finds the machine's free pages
// alike. A virtual machine hands pages that were free for seconds back to its host, and fetching one again costs as
// much as thirty operations (4 ms per 2 MiB on one such machine), so whoever ran after a slow rival paid for the pause.
// Memory that is short is not an error here; the run will tell.
func warm(bytes int64) {
	h, err := space.NewHost(max(bytes, 1), space.HostOptions{HugePages: true})
	if err != nil {
		return
	}
	defer h.Close()
	for off := int64(0); off < h.Size(); off += h.Granule() {
		if h.Commit(off, h.Granule()) != nil {
			return
		}
		for page := off; page < off+h.Granule(); page += space.HostGranule {
			h.Bytes()[page] = 1
		}
	}
}

// Command is the hidden command of the child, before the name of the allocator: a program on stdin, a run as JSON on
// stdout.
const Command = "bench-touched"

// InChild runs the program once in a process of its own, with these variables, NAME=value, beside the
// environment's.
func InChild(ctx context.Context, p *replay.Program, allocator string, variables ...string) (replay.Run, error) {
	self, err := os.Executable()
	if err != nil {
		return replay.Run{}, err
	}
	var in, out, complaint bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(p); err != nil {
		return replay.Run{}, err
	}
	warm(p.LowerBound)
	child := exec.CommandContext(ctx, self, Command, allocator)
	child.Stdin, child.Stdout, child.Stderr = &in, &out, &complaint
	if len(variables) > 0 {
		child.Env = append(os.Environ(), variables...)
	}
	if err := child.Run(); err != nil {
		return replay.Run{}, childError(err, complaint.Bytes())
	}
	if bytes.Contains(complaint.Bytes(), []byte("cannot be preloaded")) { // the loader goes on without it
		return replay.Run{}, fmt.Errorf("%s", bytes.TrimSpace(complaint.Bytes()))
	}
	var r replay.Run
	return r, json.Unmarshal(out.Bytes(), &r)
}

// childError says what ended a child: its own complaint, or the kernel, which kills where memory is short.
func childError(err error, complaint []byte) error {
	var exit *exec.ExitError
	if said, _, _ := bytes.Cut(bytes.TrimSpace(complaint), []byte("\n")); len(said) > 0 { // Go's own faults have pages
		return fmt.Errorf("%w: %s", err, said)
	}
	if errors.As(err, &exit) && !exit.Exited() {
		return fmt.Errorf("%w: killed from outside, as the kernel does where memory is short; a smaller --image needs less",
			err)
	}
	return err
}

// touch runs the program in this process and measures around it.
func touch(p *replay.Program, allocator string) (replay.Run, error) {
	run := func() (replay.Run, error) { return p.TouchLibc() }
	if allocator != "malloc" {
		memory, err := openMemory(allocator, p)
		if err != nil {
			return replay.Run{}, err
		}
		defer memory.Close()
		start := time.Now()
		run = func() (replay.Run, error) {
			return p.Touch(memory, func() time.Duration { return time.Since(start) })
		}
	}
	window, err := resident.Open()
	if err != nil {
		return replay.Run{}, err
	}
	r, err := run()
	if err != nil {
		return replay.Run{}, err
	}
	usage, err := window.Close()
	r.PeakRSS, r.Faults, r.ExactRSS = usage.PeakBytes, usage.Faults, usage.Exact
	return r, err
}

// openHostPools makes vlmem's pools over host memory in huge pages, as New does over addresses: the KV cache apart.
// Addresses are reserved for far more than the program's lower bound; memory is taken as blocks need it.
func openHostPools(lowerBound int64) (replay.Memory, error) {
	var failed error
	for _, o := range []struct{ most, addresses int64 }{ // the others where addresses are few: under ulimit -v
		{8 * max(lowerBound, 1<<30), math.MaxInt64}, {2 * lowerBound, 3 * lowerBound}, {lowerBound * 9 / 8, lowerBound * 2},
	} {
		c := alloc.Config{Policy: "vlmem", Max: o.most}
		pools, err := alloc.NewPools(map[string]alloc.Config{alloc.GeneralPool: c, alloc.KVCachePool: c},
			func(_ string, size int64) (space.Space, error) {
				if size > o.addresses {
					return nil, fmt.Errorf("reserving %d bytes of addresses: %w", size, alloc.ErrOutOfMemory)
				}
				return space.NewHost(size, space.HostOptions{HugePages: true})
			})
		if err == nil {
			return pools, nil
		}
		failed = err
	}
	return nil, failed
}

func openMemory(allocator string, p *replay.Program) (replay.Memory, error) {
	switch allocator {
	case "go":
		return goheap.New(), nil
	case "vlmem":
		return openHostPools(p.LowerBound)
	}
	return nil, fmt.Errorf("unknown allocator %q: want one of %v", allocator, Names)
}

// Names are the allocators with memory behind their blocks.
var Names = []string{"vlmem", "malloc", "go"}

// Contestant is an allocator under the variables, NAME=value, that its process is given beside the environment's.
type Contestant struct {
	Name, Allocator string
	Variables       []string
}

// Turns says how often and how long runs take turns.
type Turns struct {
	Repeats  int
	Patience time.Duration // no further repeat begins after it
	Progress func(done, of int)
}

// Take runs the program under each contestant in turns and returns their runs, fewer than asked for where patience or
// ctx ended.
func (t Turns) Take(ctx context.Context, p *replay.Program, all []Contestant) ([][]replay.Run, error) {
	runs := make([][]replay.Run, len(all))
	start := time.Now()
	for repeat := range t.Repeats {
		if repeat > 0 && time.Since(start) > t.Patience {
			break
		}
		for i, c := range all {
			r, err := InChild(ctx, p, c.Allocator, c.Variables...)
			if ctx.Err() != nil {
				return runs, nil
			}
			if err != nil {
				return nil, fmt.Errorf("running %s: %w", c.Name, err)
			}
			runs[i] = append(runs[i], r)
			t.Progress(repeat*len(all)+i+1, t.Repeats*len(all))
		}
	}
	return runs, nil
}

// Compare runs those of the named allocators that this build has and that fit the memory that is free, and notes which
// do not.
func Compare(ctx context.Context, p *replay.Program, names []string, free units.Bytes, repeats int,
	progress func(done, of int)) (results []replay.Summary, notes []string, err error) {
	var all []Contestant
	for _, name := range names {
		switch {
		case name == "malloc" && !libc.Available:
			notes = append(notes, "malloc left out: this vlmem was built without cgo")
		case units.Bytes(need[name]*float64(p.LowerBound))+processNeed > free:
			notes = append(notes, fmt.Sprintf("%s left out: it would write %v and more, and %v is free here", name,
				units.Bytes(p.LowerBound), free))
		default:
			all = append(all, Contestant{Name: name, Allocator: name})
		}
	}
	start := time.Now()
	runs, err := Turns{repeats, patience, progress}.Take(ctx, p, all)
	if err != nil {
		return nil, notes, fmt.Errorf("over touched memory: %w", err)
	}
	if ctx.Err() != nil {
		notes = append(notes, "interrupted: these results are of the runs that were whole")
	} else if len(all) > 0 && len(runs[0]) < repeats {
		notes = append(notes, fmt.Sprintf("touched runs stopped after %d of %d repeats: they took %.0f s", len(runs[0]),
			repeats,
			time.Since(start).Seconds()))
	}
	for i, c := range all {
		if len(runs[i]) > 0 {
			results = append(results, p.Summarise(c.Name, runs[i]))
		}
	}
	return results, notes, nil
}

// Serve is the child's side: the program of in, run once with the allocator, and what was seen to out.
func Serve(in io.Reader, out io.Writer, allocator string) error {
	// Where memory runs out all the same, this process is to go before any other. Systems without the file choose alone.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	var p replay.Program
	if err := gob.NewDecoder(in).Decode(&p); err != nil {
		return fmt.Errorf("reading the program: %w", err)
	}
	r, err := touch(&p, allocator)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}
