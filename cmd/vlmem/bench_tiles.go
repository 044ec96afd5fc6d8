package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/tiling/openblas"
	"github.com/vlmem/vlmem/internal/tiling/search"
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
  vlmem bench tiles --shapes 1024x1024x1024,attention:1024x1024x64 --grid
  vlmem bench tiles --hardware i5-10210u+gtx-1080 --shapes attention:2048x2048x128
  vlmem bench tiles --format json -o tiles.json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBenchTiles(env, cmd.Context(), &o) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.shapes, "shapes", tileShapes, "MxNxK for products, attention:QUERIESxKEYSxHEADDIM")
	flags.IntVar(&o.pairs, "pairs", 5, "timed runs of each contestant beside the chosen tiles")
	flags.StringVar(&o.kernel, "kernel", "",
		"register kernel: avx512, avx2, portable or go (default: the first of these that runs here)")
	flags.BoolVar(&o.grid, "grid", false, "time an exhaustive grid of tiles too")
	flags.BoolVar(&o.gpu, "gpu", false, "time the GPU kernels on this machine's first card instead")
	flags.BoolVar(&o.again, "again", false, "with --gpu: time again what is kept from an earlier run")
	addHardwareFlag(cmd, &o.hardware)
	cmd.MarkFlagsMutuallyExclusive("gpu", "hardware")
	cmd.MarkFlagsMutuallyExclusive("gpu", "grid")
	cmd.MarkFlagsMutuallyExclusive("gpu", "kernel")
	cmd.MarkFlagsMutuallyExclusive("hardware", "kernel")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

// tileShape is one parsed shape: three sizes, of a product or of attention.
type tileShape struct {
	attention bool
	size      [3]int
}

func parseTileShape(text string) (tileShape, error) {
	var s tileShape
	sizes, attention := strings.CutPrefix(text, "attention:")
	s.attention = attention
	var rest string
	if n, _ := fmt.Sscanf(sizes+" ", "%dx%dx%d%s", &s.size[0], &s.size[1], &s.size[2], &rest); n != 3 ||
		slices.Min(s.size[:]) < 1 {
		return s, fmt.Errorf("--shapes: %q is neither MxNxK nor attention:QUERIESxKEYSxHEADDIM, each above zero", text)
	}
	const most = 1 << 31 // elements of one matrix: 8 GiB
	for i, n := range s.size {
		if n > most/s.size[(i+1)%3] {
			return s, fmt.Errorf("--shapes: %q needs a matrix of more than 8 GiB", text)
		}
	}
	return s, nil
}

// tilesResult is what bench tiles prints.
type tilesResult struct {
	CPU      string           `json:"cpu" yaml:"cpu"`
	Clock    string           `json:"clock" yaml:"clock"`
	OpenBLAS string           `json:"openblas,omitempty" yaml:"openblas,omitempty"`
	Contests []search.Contest `json:"contests" yaml:"contests"`
	Notes    []string         `json:"notes,omitempty" yaml:"notes,omitempty"`
}

func runBenchTiles(env *environment, ctx context.Context, o *benchTilesOptions) error {
	var shapes []tileShape
	for _, text := range o.shapes {
		s, err := parseTileShape(text)
		if err != nil {
			return err
		}
		shapes = append(shapes, s)
	}
	if o.pairs < 1 {
		return fmt.Errorf("--pairs is %d: want at least 1", o.pairs)
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	result, err := o.run(env, ctx, shapes)
	if err != nil {
		return err
	}
	if o.out.format == "table" {
		err = result.write(w)
	} else {
		err = report.Document(w, o.out.format, result)
	}
	if err != nil {
		return err
	}
	return w.commit()
}

// run times tiles on this machine's CPU or card, or predicts them for other hardware.
func (o *benchTilesOptions) run(env *environment, ctx context.Context,
	shapes []tileShape) (interface{ write(io.Writer) error }, error) {
	if o.gpu {
		memory, err := cardMemory()
		if err != nil {
			return nil, err
		}
		return timeOnCard(env.libcuda(), memory, o.again, shapes)
	}
	if o.hardware == "" {
		return holdContests(env, ctx, o, shapes)
	}
	hardware, err := loadHardware(o.hardware)
	if err != nil {
		return nil, err
	}
	return predictTiles(hardware, shapes)
}

// kernelHere is the register kernel of that name, "" for the fastest.
func kernelHere(name string) (kernel.Variant, error) {
	here := kernel.Here()
	if name == "" {
		return here[0], nil
	}
	var names []string
	for _, v := range here {
		if v.Name == name {
			return v, nil
		}
		names = append(names, v.Name)
	}
	if slices.Contains([]string{"avx512", "avx2", "portable"}, name) { // a processor or a build with cgo may have it
		return kernel.Variant{}, exitWith(exitUnable, fmt.Errorf("--kernel: %s does not run here, only %s", name,
			strings.Join(names, ", ")))
	}
	return kernel.Variant{}, fmt.Errorf("--kernel: no kernel is named %q; here run %s", name, strings.Join(names, ", "))
}

func holdContests(env *environment, ctx context.Context, o *benchTilesOptions, shapes []tileShape) (*tilesResult,
	error) {
	hardware, err := probe.Reported("/")
	if err != nil {
		return nil, exitWith(exitUnable, fmt.Errorf("reading this machine: %w", err))
	}
	if hardware.CPU == nil {
		return nil, exitWith(exitUnable, fmt.Errorf("reading this machine: it names no CPU"))
	}
	if hardware.CPU.Cache(1) == nil { // timing then finds what the machine does not say
		if err := measure(env, ctx, &hardware, false); err != nil {
			return nil, err
		}
	}
	v, err := kernelHere(o.kernel)
	if err != nil {
		return nil, err
	}
	if o.kernel != "" {
		hardware.CPU.ISA = v.Needs // the model's tiles are for this kernel's registers
	}
	result := &tilesResult{CPU: hardware.CPU.Model, Clock: "processor time, one thread"}
	if v.Lanes == 1 && o.kernel == "" {
		result.Notes = append(result.Notes, "this build has no cgo: the kernels are the Go twins, slower by far")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // gonum would use every processor
	bar := env.progress("timing")
	defer bar.close()
	steps := 0
	options := search.Options{Budget: search.Budget, Pairs: o.pairs, Grid: o.grid, Product: result.rivals(),
		OnStep: func() { steps++; bar.set(steps, max(steps, o.expected(shapes))) }}
	for _, s := range shapes {
		contest, err := hold(v, hardware, s, options)
		if err != nil {
			return nil, exitWith(exitUnable, err)
		}
		result.Contests = append(result.Contests, contest)
	}
	return result, nil
}

// expected is about how many steps the contests of the shapes take.
func (o *benchTilesOptions) expected(shapes []tileShape) int {
	perShape := 10
	if o.grid {
		perShape += 110
	}
	return perShape * len(shapes)
}

func hold(v kernel.Variant, hardware profile.Hardware, s tileShape, o search.Options) (search.Contest, error) {
	headDim := 0
	if s.attention {
		headDim = s.size[2]
	}
	model, err := tiling.CPU(*hardware.CPU, hardware.Measured, tiling.CPUWork{HeadDim: headDim, Threads: 1})
	if err != nil {
		return search.Contest{}, err
	}
	if !s.attention {
		return search.HoldMultiply(v, &model, search.Product{M: s.size[0], N: s.size[1], K: s.size[2]}, o), nil
	}
	rule, _ := tiling.SharedMemoryRule(profile.GPU{SharedMemoryPerBlockBytes: 48 << 10}, headDim)
	shape := search.AttentionShape{Queries: s.size[0], Keys: s.size[1], HeadDim: headDim}
	return search.HoldAttention(v, model.Attention, shape, rule, o), nil
}

// rivals are gonum and, where it is installed, OpenBLAS.
func (r *tilesResult) rivals() []search.Rival {
	list := []search.Rival{{Name: "gonum", Run: func(c, a, b kernel.Matrix) {
		gonum.Implementation{}.Sgemm(blas.NoTrans, blas.NoTrans, a.Rows, b.Columns, a.Columns, 1, a.Data, a.Stride, b.Data,
			b.Stride, 0, c.Data, c.Stride)
	}}}
	library, err := openblas.Open()
	if err != nil {
		r.Notes = append(r.Notes, "no comparison with OpenBLAS: "+err.Error())
		return list
	}
	r.OpenBLAS = library.Config
	return append([]search.Rival{{Name: "OpenBLAS", Run: library.Multiply}}, list...)
}

func (r *tilesResult) write(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s\n", r.CPU, r.Clock)
	if r.OpenBLAS != "" {
		fmt.Fprintf(w, "OpenBLAS is %s\n", r.OpenBLAS)
	}
	for _, c := range r.Contests {
		grid := ""
		if c.GridPoints > 0 {
			grid = fmt.Sprintf("; grid of %d points", c.GridPoints)
		}
		fmt.Fprintf(w, "\n%s, %s kernel: %d candidates searched in %.2f s%s\n", c.Shape, c.Kernel, c.Searched,
			c.SearchSeconds, grid)
		var rows [][]string
		for _, e := range c.Contestants {
			rows = append(rows, []string{e.Name, e.Tiles, fmt.Sprintf("%.2f ms", 1e3*e.Seconds), fmt.Sprintf("%.1f", e.GFLOPS),
				fmt.Sprintf("%.3f", e.Ratio), fmt.Sprint(e.Pairs)})
		}
		if err := report.Table(w, []string{"CONTESTANT", "TILES", "MEDIAN", "GFLOP/S", "TIME RATIO", "PAIRS"}, rows, 2, 3, 4,
			5); err != nil {
			return err
		}
		heatMap(w, c)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote  %s\n", n)
	}
	return nil
}

// heatMap draws speeds as percentages of the best one: rows and columns are two tile sizes.
func heatMap(w io.Writer, c search.Contest) {
	var rows, columns []int
	best := 0.0
	for _, p := range c.Heat {
		rows, columns, best = append(rows, p.Row), append(columns, p.Column), max(best, p.GFLOPS)
	}
	slices.Sort(rows)
	slices.Sort(columns)
	rows, columns = slices.Compact(rows), slices.Compact(columns)
	fmt.Fprintf(w, "\nper cent of %.1f GFLOP/s, %s down, %s across\n%8s", best, c.Axes[0], c.Axes[1], "")
	for _, column := range columns {
		fmt.Fprintf(w, "%6d", column)
	}
	for _, row := range rows {
		fmt.Fprintf(w, "\n%8d", row)
		line := ""
		for _, column := range columns {
			i := slices.IndexFunc(c.Heat, func(p search.Point) bool { return p.Row == row && p.Column == column })
			if i < 0 {
				line += "      "
				continue
			}
			share := c.Heat[i].GFLOPS / best
			line += fmt.Sprintf("%5.0f%s", 100*share, shade(share))
		}
		fmt.Fprint(w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(w)
}

// shade marks the best places, so that the shape of the optimum is seen without reading numbers.
func shade(share float64) string {
	switch {
	case share >= 0.97:
		return "#"
	case share >= 0.94:
		return "+"
	}
	return " "
}
