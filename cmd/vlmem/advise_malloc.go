package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

const (
	mallocRepeats = 3
	mallocTime    = 45 * time.Second // no further repeat begins after it
)

// preloadable is the heaps that can be put in the place of the C library's, by file, and where systems keep them.
var preloadable = map[string][]string{
	"tcmalloc": {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"},
	"jemalloc": {"libjemalloc.so.2"},
	"mimalloc": {"libmimalloc.so.2", "libmimalloc.so.2.*"},
}

var libraryFolders = []string{"/usr/lib/*-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib"}

// malloc chooses the heap of a process that infers on the CPU, by running the model's requests through every heap
// installed.
func (o *adviseOptions) malloc(env *environment, ctx context.Context, in *advise.Inputs) (bundle, error) {
	if !libc.Available {
		return bundle{}, verdict.Unable.Of(errors.New("--for malloc runs the C library's heap, and this vlmem was built without cgo"))
	}
	if o.hardware != "" {
		return bundle{}, errors.New("--for malloc times the heaps of this machine: leave --hardware out")
	}
	in.Hardware.GPUs = nil
	t, err := o.sequence(in, 0, workload.Dynamic)
	if err != nil {
		return bundle{}, err
	}
	p, err := replay.Compile(t)
	if err != nil {
		return bundle{}, err
	}
	if m := in.Hardware.Memory; m != nil && m.AvailableBytes != nil && units.Bytes(p.LowerBound)*3/2 > *m.AvailableBytes {
		return bundle{}, verdict.Unable.Errorf("--for malloc would write %s and %s is free: lower --image or --context", units.Bytes(p.LowerBound),
			*m.AvailableBytes)
	}
	choice, err := timeMallocs(env, ctx, &p, installed())
	if err != nil {
		return bundle{}, err
	}
	b := bundle{Engine: mallocTarget, Version: "the process's environment", Malloc: &choice, Headline: choice.Headline()}
	text := "# written by vlmem for a process that infers on the CPU\n"
	for _, variable := range choice.Best.Env {
		text += variable + "\n"
	}
	b.Files = []bundleFile{{"malloc.env", text}}
	b.Use = []string{"env $(grep -v '^#' malloc.env) python …"}
	for _, name := range []string{"tcmalloc", "jemalloc", "mimalloc"} {
		if installed()[name] == "" {
			b.Notes = append(b.Notes, name+" is not installed and was not tried")
		}
	}
	if m := in.Hardware.Memory; m != nil && m.TransparentHugePage == "never" {
		b.Notes = append(b.Notes, "transparent huge pages are off (/sys/kernel/mm/transparent_hugepage/enabled): settings that ask for them had no effect")
	}
	return b, nil
}

// installed finds the preloadable heaps of this machine.
func installed() map[string]string {
	found := map[string]string{}
	for name, files := range preloadable {
		for _, file := range files {
			for _, folder := range libraryFolders {
				if paths, err := filepath.Glob(filepath.Join(folder, file)); err == nil && len(paths) > 0 && found[name] == "" {
					found[name] = paths[0]
				}
			}
		}
	}
	return found
}

// timeMallocs runs the program under every setting, in turns, each run in a process of its own.
func timeMallocs(env *environment, ctx context.Context, p *replay.Program,
	libraries map[string]string) (advise.MallocChoice, error) {
	settings := advise.MallocSettings(libraries)
	runs := make([][]replay.Run, len(settings))
	bar := env.progress("running the heaps that are installed")
	defer bar.close()
	start := time.Now()
	for repeat := range mallocRepeats {
		if repeat > 0 && time.Since(start) > mallocTime {
			break
		}
		for i, s := range settings {
			r, err := touchInChild(ctx, p, mallocTarget, s.Env...)
			if err != nil {
				return advise.MallocChoice{}, fmt.Errorf("running %s: %w", s.Name, err)
			}
			runs[i] = append(runs[i], r)
			bar.set(repeat*len(settings)+i+1, mallocRepeats*len(settings))
		}
	}
	var trials []advise.MallocTrial
	for i, s := range settings {
		sum := p.Summarise(s.Name, runs[i])
		trials = append(trials, advise.MallocTrial{MallocSetting: s, NsPerOp: medianMean(p, runs[i]),
			PeakRSS: units.Bytes(*sum.PeakRSSBytes), Faults: *sum.PageFaults, Runs: len(runs[i])})
	}
	return advise.ChooseMalloc(trials, p.LowerBound)
}

// medianMean is the mean time of an operation, in nanoseconds, of the median run.
func medianMean(p *replay.Program, runs []replay.Run) float64 {
	var means []float64
	for _, r := range runs {
		var sum int64
		for _, ns := range r.Ns {
			sum += ns
		}
		means = append(means, float64(sum)/float64(p.Operations()))
	}
	slices.Sort(means)
	return means[len(means)/2]
}
