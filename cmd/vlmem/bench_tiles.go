package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/verdict"
)

type benchTilesOptions struct {
	shapes   []string
	pairs    int
	kernel   string
	grid     bool
	hardware string
	gpu      bool
	again    bool
	out      output
}

// tileShapes are decoder products of Qwen3-VL 4B around 1024 tokens, and an attention head over an image of 2040
// patches.
var tileShapes = []string{"1024x1024x1024", "512x2560x4096", "1024x9728x2560", "attention:2040x2040x128"}

func newBenchTilesCmd(env *environment) *cobra.Command {
	var o benchTilesOptions
	cmd := &cobra.Command{
		Use:   "tiles",
		Short: "Search CPU tiles on this machine and run them against everything else",
		Long: `tiles searches the tiles of matrix products and of attention on this machine, within two seconds
for each shape, and runs the chosen ones beside what the model alone says, their neighbours, no tiles,
gonum and, where it is installed, OpenBLAS.

Everything runs on one thread and is timed in processor time. Each contestant alternates with the
chosen tiles; its ratio is the median of those pairs. --grid times every point of an exhaustive grid
as well, which takes up to a minute for a large shape, and lets its best compete.

With --hardware nothing is timed: the tiles are those of the model for that machine, with the misses
of its caches by exact simulation, and for its cards those of the cost model beside the
shared-memory rule and llama.cpp's table.

With --gpu every compiled kernel that can do a shape runs on this machine's first card, once its
result agrees with the CPU's. Timings are kept by card and driver; --again takes them anew.`,
		Example: `  vlmem bench tiles
  vlmem bench tiles --shapes attention:1024x1024x64 --grid
  vlmem bench tiles --hardware i5-10210u+gtx-1080 --shapes attention:2048x2048x128
  vlmem bench tiles --format json -o tiles.json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBenchTiles(env, cmd.Context(), &o) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.shapes, "shapes", tileShapes, "MxNxK for products, attention:MxKEYSxDIM")
	flags.Lookup("shapes").DefValue = "a square one, two of a decoder, its attention"
	flags.IntVar(&o.pairs, "pairs", 5, "timed runs of each contestant beside the chosen tiles")
	flags.StringVar(&o.kernel, "kernel", "", "register kernel: avx512, avx2, portable or go (default: what runs)")
	flags.BoolVar(&o.grid, "grid", false, "time an exhaustive grid of tiles too")
	flags.BoolVar(&o.gpu, "gpu", false, "time the GPU kernels on this machine's first card instead")
	flags.BoolVar(&o.again, "again", false, "with --gpu: time again what is kept from an earlier run")
	addHardwareFlag(cmd, &o.hardware)
	settings.Exclusive(cmd, "gpu hardware", "gpu grid", "gpu kernel", "gpu pairs", "hardware kernel", "hardware grid",
		"hardware pairs")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runBenchTiles(env *environment, ctx context.Context, o *benchTilesOptions) error {
	var shapes []contest.Shape
	for _, text := range o.shapes {
		s, err := contest.ParseShape(text)
		if err != nil {
			return err
		}
		shapes = append(shapes, s)
	}
	if o.again && !o.gpu {
		return errors.New("--again is of the timings of a card: it goes with --gpu")
	}
	if o.pairs < 1 {
		return fmt.Errorf("--pairs is %d: want at least 1", o.pairs)
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	render, err := o.run(env, ctx, shapes)
	if err != nil {
		return err
	}
	if err := render(w, o.out.format); err != nil {
		return err
	}
	return w.Commit()
}

// run times tiles on this machine's CPU or card, or predicts them for other hardware.
func (o *benchTilesOptions) run(env *environment, ctx context.Context,
	shapes []contest.Shape) (func(io.Writer, string) error, error) {
	switch {
	case o.gpu:
		memory, err := card.UserMemory(env.lookup)
		if err != nil {
			return nil, err
		}
		library := env.libcuda()
		r, err := contest.OnCard(library, func() (profile.GPU, error) { return probe.FirstCard(library) }, memory, o.again,
			shapes)
		return func(w io.Writer, format string) error { return report.CardTiles(w, format, r) }, err
	case o.hardware != "":
		hardware, err := catalog.Hardware(o.hardware)
		if err != nil {
			return nil, err
		}
		r, err := contest.Predict(hardware, shapes)
		return func(w io.Writer, format string) error { return report.PredictedTiles(w, format, r) }, err
	}
	hardware, err := tilesMachine(env, ctx)
	if err != nil {
		return nil, err
	}
	bar := env.progress("timing")
	defer bar.Close()
	r, err := contest.Hold(hardware, shapes,
		contest.Options{Kernel: o.kernel, Pairs: o.pairs, Grid: o.grid, Progress: bar.Set})
	return func(w io.Writer, format string) error { return report.Contests(w, format, r) }, err
}

// tilesMachine is this machine; timing finds what it does not say of its caches.
func tilesMachine(env *environment, ctx context.Context) (profile.Hardware, error) {
	hardware, err := probe.Reported("/")
	if err == nil && hardware.CPU == nil {
		err = errors.New("it names no CPU")
	}
	if err != nil {
		return hardware, verdict.Unable.Errorf("reading this machine: %w", err)
	}
	if hardware.CPU.Cache(1) == nil {
		err = measure(env, ctx, &hardware, false)
	}
	return hardware, err
}
