package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/placement"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// libcuda is the driver library to load, "" for the system's.
func (env *environment) libcuda() string {
	path, _ := env.lookup("VLMEM_LIBCUDA")
	return path
}

// backends are where bench streams can do its work.
var backends = []string{"host", "sim", "cuda"}

// defaultCard is what --on sim simulates: 8 GiB of compute capability 6.1.
const defaultCard = "gtx-1080"

type benchStreamsOptions struct {
	on, hardware, model, image string
	repeats                    int
	out                        output
}

func newBenchStreamsCmd(env *environment) *cobra.Command {
	var o benchStreamsOptions
	cmd := &cobra.Command{
		Use:   "streams",
		Short: "Show what overlapping copies with computing gains, and what pools of pinned memory save",
		Long: `streams takes images through a vision pipeline twice, a copy and a computation one after the other and
overlapped on streams, and times staging memory locked anew beside memory from a pool.

It runs on worker threads of this machine (host), on this machine's first card (cuda), or on a card
computed from its profile (sim), where the pipeline's times are the profile's rates and no card ran.`,
		Example: `  vlmem bench streams
  vlmem bench streams --on sim --hardware gtx-1080-ti --format json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runBenchStreams(env, o) },
	}
	addModelFlag(cmd, &o.model)
	flags := cmd.Flags()
	flags.StringVar(&o.on, "on", backends[0], "where to run: "+strings.Join(backends, ", "))
	flags.StringVar(&o.image, "image", "640x480", "image of the pipeline, WIDTHxHEIGHT pixels")
	flags.IntVar(&o.repeats, "repeats", 5, "timed runs of each pipeline")
	addHardwareFlag(cmd, &o.hardware)
	flags.Lookup("hardware").Usage = "with --on sim, the card to simulate: a built-in name or file (default: " +
		defaultCard + ")"
	_ = cmd.RegisterFlagCompletionFunc("on", cobra.FixedCompletions(backends, cobra.ShellCompDirectiveNoFileComp))
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

// addBackendFlag declares the name that bench streams had before: bench --backend, until v0.2.0.
func addBackendFlag(cmd *cobra.Command, o *benchStreamsOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.on, "backend", "", "")
	flags.StringVar(&o.hardware, "hardware", "", "")
	_ = flags.MarkHidden("backend")
	_ = flags.MarkHidden("hardware")
}

// runBackend is bench --backend: bench streams, with none of bench's other flags.
func (o *benchOptions) runBackend(env *environment, cmd *cobra.Command) error {
	for _, name := range []string{"trace", "decode", "allocators", "touch", "limit", "granule", "save", "against",
		"report", "shard"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s has no meaning with --backend: vlmem bench streams takes --on, --hardware, --model, "+
				"--image, --repeats, --format and -o", name)
		}
	}
	if !slices.Contains([]string{"table", "json", "yaml"}, o.out.format) {
		return fmt.Errorf("--format %s with --backend: want table, json or yaml", o.out.format)
	}
	if len(o.models) != 1 || len(o.images) != 1 {
		return errors.New("--backend runs one model and one image: give each flag once")
	}
	env.warn("bench --backend is now: vlmem bench streams --on %s", o.streams.on)
	o.streams.model, o.streams.image, o.streams.repeats, o.streams.out = o.models[0], o.images[0], o.repeats, o.out
	return runBenchStreams(env, o.streams)
}

// streamsBench is what bench streams answers.
type streamsBench struct {
	Results []stream.BenchResult `json:"results" yaml:"results"`
	Notes   []string             `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// pipelineImages is how many images one run of the pipeline takes through.
const pipelineImages = 16

// leastCeiling is the speedup of independent streams under which the machine was too busy for overlap to show.
const leastCeiling = 1.4

// runBenchStreams shows what overlap and pooling are worth on one backend.
func runBenchStreams(env *environment, o benchStreamsOptions) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	result, err := o.run(env)
	if err != nil {
		return err
	}
	if o.out.format == "table" {
		err = result.table(w)
	} else {
		err = report.Document(w, o.out.format, result)
	}
	if err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	if r := result.Results[0]; r.Backend == "host" && r.Overlap.Ceiling < leastCeiling {
		return verdict.Unsure.Errorf("the machine is too busy to show overlap: two streams without any dependency gained "+
			"%.2fx",
			r.Overlap.Ceiling)
	}
	return nil
}

func (o benchStreamsOptions) run(env *environment) (streamsBench, error) {
	if !slices.Contains(backends, o.on) {
		return streamsBench{}, fmt.Errorf("unknown --on %q: want one of %s", o.on, strings.Join(backends, ", "))
	}
	if o.hardware != "" && o.on != "sim" { // it may come from the settings and be meant for other commands
		env.warn("--hardware is for --on sim; --on %s runs on this machine", o.on)
	}
	if o.repeats < 1 {
		return streamsBench{}, fmt.Errorf("--repeats %d: want at least 1", o.repeats)
	}
	model, grid, err := o.grid()
	if err != nil {
		return streamsBench{}, err
	}
	bench := stream.BenchOptions{ImageBytes: grid.PixelBytes(), Images: pipelineImages, Repeats: o.repeats}
	var b streamsBench
	switch o.on {
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

func (b *streamsBench) add(r stream.BenchResult, err error) error {
	if err != nil {
		return verdict.Unable.Of(err)
	}
	b.Results = append(b.Results, r)
	return nil
}

// grid is the image as the model's preprocessing makes it.
func (o benchStreamsOptions) grid() (profile.Model, profile.Grid, error) {
	model, err := catalog.Model(o.model)
	if err != nil {
		return profile.Model{}, profile.Grid{}, err
	}
	width, height, err := profile.ParseImage(o.image)
	if err != nil {
		return profile.Model{}, profile.Grid{}, err
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
func (b *streamsBench) simulated(hardware string, o stream.BenchOptions, flops float64) error {
	if hardware == "" {
		hardware = defaultCard
	}
	h, err := catalog.Hardware(hardware)
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
		"the first pipeline computes as long as it copies, where overlap gains most; the second computes what the vision "+
			"tower does at the card's peak")
	return nil
}

// card runs on this machine's card.
func (b *streamsBench) card(env *environment, o stream.BenchOptions) (err error) {
	driver, err := cuda.Open(env.libcuda())
	if err != nil {
		if why := strings.Join(cuda.Lines(cuda.Diagnose("/", err, nil)), "; "); why != "" {
			err = errors.New(why)
		}
		return verdict.Unable.Of(err)
	}
	defer driver.Close()
	ctx, err := driver.Retain(0)
	if err != nil {
		return verdict.Unable.Of(err)
	}
	defer func() {
		if e := ctx.Release(); err == nil {
			err = e
		}
	}()
	return b.add(stream.BenchCUDA(ctx, o))
}

// table renders for people.
func (b streamsBench) table(w io.Writer) error {
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
