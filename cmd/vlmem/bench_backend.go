package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/placement"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
)

// libcuda is the driver library to load, "" for the system's.
func (env *environment) libcuda() string {
	path, _ := env.lookup("VLMEM_LIBCUDA")
	return path
}

// backends are where bench --backend can do its work.
var backends = []string{"host", "sim", "cuda"}

// defaultCard is what --backend sim simulates: 8 GiB of compute capability 6.1.
const defaultCard = "gtx-1080"

// backendOptions are the part of bench's flags that --backend takes.
type backendOptions struct {
	backend, hardware, model, image string
	repeats                         int
}

func addBackendFlags(cmd *cobra.Command, o *backendOptions) {
	cmd.Flags().StringVar(&o.backend, "backend", "",
		"run a vision pipeline and stream-ordered pools instead, on worker threads, a simulated card or a card: "+strings.Join(backends, ", "))
	addHardwareFlag(cmd, &o.hardware)
	cmd.Flags().Lookup("hardware").Usage = "with --backend sim, the card to simulate: a built-in name or file (default: " +
		defaultCard + ")"
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(backends, cobra.ShellCompDirectiveNoFileComp))
}

// backendBench is what bench --backend answers.
type backendBench struct {
	Results []stream.BenchResult `json:"results" yaml:"results"`
	Notes   []string             `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// pipelineImages is how many images one run of the pipeline takes through.
const pipelineImages = 16

// leastCeiling is the speedup of independent streams under which the machine was too busy for overlap to show.
const leastCeiling = 1.4

// runBenchBackend shows what overlap and pooling are worth on one backend.
func runBenchBackend(env *environment, o backendOptions, out *output) error {
	if !slices.Contains([]string{"table", "json", "yaml"}, out.format) {
		return fmt.Errorf("--format %s with --backend: want table, json or yaml", out.format)
	}
	w, err := out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	result, err := o.run(env)
	if err != nil {
		return err
	}
	if out.format == "table" {
		err = result.table(w)
	} else {
		err = report.Document(w, out.format, result)
	}
	if err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	if r := result.Results[0]; r.Backend == "host" && r.Overlap.Ceiling < leastCeiling {
		return exitWith(exitInconclusive,
			fmt.Errorf("the machine is too busy to show overlap: two streams without any dependency gained %.2fx",
				r.Overlap.Ceiling))
	}
	return nil
}

func (o backendOptions) run(env *environment) (backendBench, error) {
	if !slices.Contains(backends, o.backend) {
		return backendBench{}, fmt.Errorf("unknown --backend %q: want one of %s", o.backend, strings.Join(backends, ", "))
	}
	if o.hardware != "" && o.backend != "sim" { // it may come from the settings and be meant for other commands
		env.warn("--hardware is for --backend sim; --backend %s runs on this machine", o.backend)
	}
	if o.repeats < 1 {
		return backendBench{}, fmt.Errorf("--repeats %d: want at least 1", o.repeats)
	}
	model, grid, err := o.grid()
	if err != nil {
		return backendBench{}, err
	}
	bench := stream.BenchOptions{ImageBytes: grid.PixelBytes(), Images: pipelineImages, Repeats: o.repeats}
	var b backendBench
	switch o.backend {
	case "host":
		err = b.add(stream.BenchHost(bench))
	case "cuda":
		err = b.card(env, bench)
	default:
		err = b.simulated(o.hardware, bench, towerFlops(&model, grid))
	}
	for _, r := range b.Results {
		b.Notes = append(b.Notes, r.Warnings...)
	}
	return b, err
}

func (b *backendBench) add(r stream.BenchResult, err error) error {
	if err != nil {
		return exitWith(exitUnable, err)
	}
	b.Results = append(b.Results, r)
	return nil
}

// grid is the image as the model's preprocessing makes it.
func (o backendOptions) grid() (profile.Model, profile.Grid, error) {
	model, err := loadModel(o.model)
	if err != nil {
		return profile.Model{}, profile.Grid{}, err
	}
	var width, height int
	if n, err := fmt.Sscanf(o.image, "%dx%d", &width, &height); n != 2 || err != nil {
		return profile.Model{}, profile.Grid{}, fmt.Errorf("--image %q: want WIDTHxHEIGHT in pixels, such as 640x480",
			o.image)
	}
	grid, err := model.ImageGrid(width, height)
	return model, grid, err
}

// towerFlops is what the vision tower computes for an image of n patches: 2·parameters·n for its matrices, and
// 4·n²·hidden in each block for attention.
func towerFlops(m *profile.Model, g profile.Grid) float64 {
	n, p := float64(g.Patches), m.Parameters()
	return 2*float64(p.VisionCore)*n + 4*n*n*float64(m.Vision.HiddenSize*m.Vision.Depth)
}

// simulated runs the pipeline twice: computing as long as copying, and computing what the vision tower does.
func (b *backendBench) simulated(hardware string, o stream.BenchOptions, flops float64) error {
	if hardware == "" {
		hardware = defaultCard
	}
	h, err := loadHardware(hardware)
	if err != nil {
		return err
	}
	if len(h.GPUs) == 0 {
		return fmt.Errorf("--hardware %s has no card to simulate", hardware)
	}
	rates, err := placement.RatesOf(h.GPUs[0])
	if err != nil {
		return err
	}
	if err := b.add(stream.BenchSim(h.GPUs[0].Name, rates, o)); err != nil {
		return err
	}
	o.Flops = flops
	if err := b.add(stream.BenchSim(h.GPUs[0].Name, rates, o)); err != nil {
		return err
	}
	b.Notes = append(b.Notes,
		"simulated from the profile's rates; no card ran",
		"the first pipeline computes as long as it copies, where overlap gains most; the second computes what the vision tower does at the card's peak")
	return nil
}

// card runs on this machine's card.
func (b *backendBench) card(env *environment, o stream.BenchOptions) (err error) {
	driver, err := cuda.Open(env.libcuda())
	if err != nil {
		if why := strings.Join(cuda.Lines(cuda.Diagnose("/", err, nil)), "; "); why != "" {
			err = errors.New(why)
		}
		return exitWith(exitUnable, err)
	}
	defer driver.Close()
	ctx, err := driver.Retain(0)
	if err != nil {
		return exitWith(exitUnable, err)
	}
	defer func() {
		if e := ctx.Release(); err == nil {
			err = e
		}
	}()
	return b.add(stream.BenchCUDA(ctx, o))
}

// table renders for people.
func (b backendBench) table(w io.Writer) error {
	var overlap, reuse, costs [][]string
	for _, r := range b.Results {
		o := r.Overlap
		overlap = append(overlap, []string{
			r.Backend, r.Device, units.Bytes(o.ImageBytes).String(), milliseconds(o.CopySeconds), milliseconds(o.ComputeSeconds),
			milliseconds(o.Serial), milliseconds(o.Overlapped), fmt.Sprintf("%.2fx", o.Speedup), fmt.Sprintf("%.2fx", o.Ceiling),
			r.Clock,
		})
		for _, u := range r.Reuse {
			reuse = append(reuse, []string{r.Backend, units.Bytes(u.Bytes).String(), milliseconds(u.Fresh),
				milliseconds(u.Pooled), fmt.Sprintf("%.1fx", u.Ratio), "measured"})
		}
	}
	for _, c := range b.Results[0].Costs {
		costs = append(costs, []string{b.Results[0].Backend, c.Server, fmt.Sprintf("%.0f ns", c.NsMedian),
			fmt.Sprintf("%.0f-%.0f", c.NsLow, c.NsHigh), "measured"})
	}
	for _, t := range []struct {
		headers []string
		rows    [][]string
		right   []int
	}{
		{[]string{"BACKEND", "DEVICE", "IMAGE", "COPY", "COMPUTE", "SERIAL", "OVERLAPPED", "GAIN", "CEILING", "CLOCK"},
			overlap, []int{2, 3, 4, 5, 6, 7, 8}},
		{[]string{"BACKEND", "TRANSFER", "LOCKED ANEW", "FROM A POOL", "GAIN", "CLOCK"}, reuse, []int{1, 2, 3, 4}},
		{[]string{"BACKEND", "MEMORY FROM", "PER OP", "RANGE", "CLOCK"}, costs, []int{2, 3}},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if err := report.Table(w, t.headers, t.rows, t.right...); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, n := range b.Notes {
		fmt.Fprintf(w, "note  %s\n", n)
	}
	return nil
}

func milliseconds(s float64) string { return fmt.Sprintf("%.3g ms", s*1e3) }
