package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/resident"
	"github.com/vlmem/vlmem/internal/rivals/goheap"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/units"
)

// touchedTime ends the repeats of touched runs early: malloc alone can take half a minute over one large image, and
// what more repeats would add to figures that far apart is little.
const touchedTime = 12 * time.Second

// runTouched runs each allocator in a process of its own, so that resident memory is its alone and nothing that one
// leaves behind helps or hinders the next. Repeats take turns.
func (o *benchOptions) runTouched(env *environment, ctx context.Context, p *replay.Program,
	wanted []string) (result report.Bench, err error) {
	var names []string
	room := fillable()
	for _, name := range wanted {
		switch {
		case name == "malloc" && !libc.Available:
			result.Notes = append(result.Notes, "malloc left out: this vlmem was built without cgo")
		case units.Bytes(touchedNeed[name]*float64(p.LowerBound))+processNeed > room:
			result.Notes = append(result.Notes, fmt.Sprintf("%s left out: it would write %v and more, and %v is free here", name,
				units.Bytes(p.LowerBound), room))
		default:
			names = append(names, name)
		}
	}
	bar := env.progress("writing every page")
	defer bar.close()
	runs := make(map[string][]replay.Run, len(names))
	start := time.Now()
	for repeat := range o.repeats {
		if repeat > 0 && time.Since(start) > touchedTime {
			result.Notes = append(result.Notes, fmt.Sprintf("touched runs stopped after %d of %d repeats: they took %.0f s",
				repeat, o.repeats, time.Since(start).Seconds()))
			break
		}
		for i, name := range names {
			r, err := touchInChild(ctx, p, name)
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				return result, fmt.Errorf("running %s over touched memory: %w", name, err)
			}
			runs[name] = append(runs[name], r)
			bar.set(repeat*len(names)+i+1, o.repeats*len(names))
		}
	}
	if ctx.Err() != nil {
		result.Notes = append(result.Notes, "interrupted: these results are of the runs that were whole")
	}
	for _, name := range names {
		if len(runs[name]) == 0 {
			continue
		}
		result.Results = append(result.Results, p.Summarise(name, runs[name]))
	}
	return result, nil
}

// touchedNames are the chosen allocators that have memory behind their blocks.
func (o *benchOptions) touchedNames() []string {
	if len(o.allocators) == 0 {
		return touchedNames
	}
	return slices.DeleteFunc(slices.Clone(touchedNames), func(name string) bool { return !slices.Contains(o.allocators, name) })
}

// touchedNeed is what a run of each allocator reserves at most, in lower bounds: the largest overheads seen over the
// recordings and requests of docs/performance.md, and some more.
var touchedNeed = map[string]float64{"vlmem": 1.3, "malloc": 1.5, "go": 2.5}

// processNeed is what this process and its child take beside: the program, twice, and two Go runtimes.
const processNeed = 64 * units.MiB

// fillable is the memory that this machine or its control group has left, or more than any where it does not say.
func fillable() units.Bytes {
	h, err := probe.Reported("/")
	if err != nil || h.Memory == nil || h.Memory.FillableBytes == nil {
		return math.MaxInt64
	}
	return *h.Memory.FillableBytes
}

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

// touchCommand is the hidden command of the child: a program on stdin, a run as JSON on stdout.
const touchCommand = "bench-touched"

// touchInChild runs the program once in a process of its own, with these variables, NAME=value, beside the
// environment's.
func touchInChild(ctx context.Context, p *replay.Program, allocator string, variables ...string) (replay.Run, error) {
	self, err := os.Executable()
	if err != nil {
		return replay.Run{}, err
	}
	var in, out, complaint bytes.Buffer
	if err := gob.NewEncoder(&in).Encode(p); err != nil {
		return replay.Run{}, err
	}
	warm(p.LowerBound)
	child := exec.CommandContext(ctx, self, touchCommand, allocator)
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
		return fmt.Errorf("%w: killed from outside, as the kernel does where memory is short; a smaller --image needs less", err)
	}
	return err
}

func newBenchTouchedCmd(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: touchCommand + " ALLOCATOR", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Run the program on stdin once over touched memory (bench runs this in a process of its own)",
		RunE: func(_ *cobra.Command, args []string) error {
			// Where memory runs out all the same, this process is to go before any other. Systems without the file choose alone.
			_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
			var p replay.Program
			if err := gob.NewDecoder(env.stdin).Decode(&p); err != nil {
				return fmt.Errorf("reading the program: %w", err)
			}
			r, err := touch(&p, args[0])
			if err != nil {
				return err
			}
			return json.NewEncoder(env.stdout).Encode(r)
		},
	}
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
	return nil, fmt.Errorf("unknown allocator %q: want one of %v", allocator, touchedNames)
}
