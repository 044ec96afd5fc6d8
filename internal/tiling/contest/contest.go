// Package contest holds tiles against everything else: contests of kernels on this machine's CPU, timings of every
// compiled kernel on its first card, and what the models predict for hardware that is not here.
//
// A contestant alternates with the chosen tiles on one thread, in processor time; its ratio is the median of those
// pairs, so that a clock that drifts drifts for both. Predictions are never mixed with timings: they have types of
// their own.
package contest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/tiling/openblas"
	"github.com/vlmem/vlmem/internal/tiling/search"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Shape is one parsed shape: three sizes, of a product or of attention.
type Shape struct {
	attention bool
	size      [3]int
}

// ParseShape reads MxNxK or attention:QUERIESxKEYSxHEADDIM, as --shapes takes it.
func ParseShape(text string) (Shape, error) {
	var s Shape
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

// String writes a shape as --shapes takes it.
func (s Shape) String() string {
	text := fmt.Sprintf("%dx%dx%d", s.size[0], s.size[1], s.size[2])
	if s.attention {
		return "attention:" + text
	}
	return text
}

// Contests is what bench tiles prints.
type Contests struct {
	CPU      string           `json:"cpu" yaml:"cpu"`
	Clock    string           `json:"clock" yaml:"clock"`
	OpenBLAS string           `json:"openblas,omitempty" yaml:"openblas,omitempty"`
	Contests []search.Contest `json:"contests" yaml:"contests"`
	Notes    []string         `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// Options say how contests are held.
type Options struct {
	Kernel string // register kernel, "" for the fastest that runs here
	Pairs  int    // timed runs of each contestant beside the chosen tiles
	Grid   bool   // time an exhaustive grid of tiles too
	// Progress is called after each step of about so many.
	Progress func(done, of int)
}

// Hold searches the tiles of each shape on this machine, which is described by hardware, and holds the contests.
func Hold(hardware profile.Hardware, shapes []Shape, o Options) (*Contests, error) {
	v, err := kernelHere(o.Kernel)
	if err != nil {
		return nil, err
	}
	if o.Kernel != "" {
		hardware.CPU.ISA = v.Needs // the model's tiles are for this kernel's registers
	}
	result := &Contests{CPU: hardware.CPU.Model, Clock: "processor time, one thread"}
	if v.Lanes == 1 && o.Kernel == "" {
		result.Notes = append(result.Notes, "this build has no cgo: the kernels are the Go twins, slower by far")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // gonum would use every processor
	steps := 0
	options := search.Options{Budget: search.Budget, Pairs: o.Pairs, Grid: o.Grid, Product: result.rivals(),
		OnStep: func() { steps++; o.Progress(steps, max(steps, o.expected(shapes))) }}
	for _, s := range shapes {
		contest, err := hold(v, hardware, s, options)
		if err != nil {
			return nil, verdict.Unable.Of(err)
		}
		result.Contests = append(result.Contests, contest)
	}
	return result, nil
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
		return kernel.Variant{}, verdict.Unable.Errorf("--kernel: %s does not run here, only %s", name,
			strings.Join(names, ", "))
	}
	return kernel.Variant{}, fmt.Errorf("--kernel: no kernel is named %q; here run %s", name, strings.Join(names, ", "))
}

// expected is about how many steps the contests of the shapes take.
func (o Options) expected(shapes []Shape) int {
	perShape := 10
	if o.Grid {
		perShape += 110
	}
	return perShape * len(shapes)
}

func hold(v kernel.Variant, hardware profile.Hardware, s Shape, o search.Options) (search.Contest, error) {
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
func (r *Contests) rivals() []search.Rival {
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
