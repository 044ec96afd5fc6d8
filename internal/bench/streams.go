package bench

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/placement"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Streams is what overlap and pools of pinned memory are worth on one backend, by one pipeline or two.
type Streams struct {
	Results []stream.BenchResult `json:"results" yaml:"results"`
	Notes   []string             `json:"notes,omitempty" yaml:"notes,omitempty"`
}

// pipelineImages is how many images one run of the pipeline takes through.
const pipelineImages = 16

// leastCeiling is the speedup of independent streams under which the machine was too busy for overlap to show.
const leastCeiling = 1.4

// StreamOptions say what pipeline is run.
type StreamOptions struct {
	Model   *profile.Model
	Grid    profile.Grid // of each image
	Repeats int          // timed runs of each pipeline
}

func (o StreamOptions) pipeline() stream.BenchOptions {
	return stream.BenchOptions{ImageBytes: o.Grid.PixelBytes(), Images: pipelineImages, Repeats: o.Repeats}
}

// StreamsOnHost runs on worker threads of this machine.
func StreamsOnHost(o StreamOptions) (b Streams, err error) {
	err = b.add(stream.BenchHost(o.pipeline()))
	return b, err
}

// StreamsOnCard runs on the first card of the driver at library, "" for the system's.
func StreamsOnCard(library string, o StreamOptions) (b Streams, err error) {
	driver, err := cuda.Open(library)
	if err != nil {
		if why := strings.Join(cuda.Lines(cuda.Diagnose("/", err, nil)), "; "); why != "" {
			err = errors.New(why)
		}
		return b, verdict.Unable.Of(err)
	}
	defer driver.Close()
	ctx, err := driver.Retain(0)
	if err != nil {
		return b, verdict.Unable.Of(err)
	}
	defer func() {
		if e := ctx.Release(); err == nil {
			err = e
		}
	}()
	err = b.add(stream.BenchCUDA(ctx, o.pipeline()))
	return b, err
}

// StreamsSimulated computes the first card of the hardware of a name from its profile, and runs the pipeline twice:
// computing as long as copying, and computing what the vision tower does.
func StreamsSimulated(hardware string, o StreamOptions) (b Streams, err error) {
	h, err := catalog.Hardware(hardware)
	if err != nil {
		return b, err
	}
	if len(h.GPUs) == 0 {
		return b, fmt.Errorf("--hardware %s has no card to simulate", hardware)
	}
	gpu := h.GPUs[0]
	rates, err := placement.RatesOf(gpu)
	if err != nil {
		return b, err
	}
	p := o.pipeline()
	if err := b.add(stream.BenchSim(gpu.Name, rates, p)); err != nil {
		return b, err
	}
	p.Flops = towerFlops(o.Model, o.Grid)
	if err := b.add(stream.BenchSim(gpu.Name, rates, p)); err != nil {
		return b, err
	}
	b.Notes = append(b.Notes,
		"simulated from the profile's rates; no card ran",
		"the first pipeline computes as long as it copies, where overlap gains most; the second computes what the vision "+
			"tower does at the card's peak")
	return b, nil
}

func (b *Streams) add(r stream.BenchResult, err error) error {
	if err != nil {
		return verdict.Unable.Of(err)
	}
	b.Results = append(b.Results, r)
	b.Notes = append(b.Notes, r.Warnings...)
	return nil
}

// towerFlops is what the vision tower computes for an image of n patches: 2·parameters·n for its matrices, and
// 4·n²·hidden in each block for attention.
func towerFlops(m *profile.Model, g profile.Grid) float64 {
	n, p := float64(g.Patches), m.Parameters()
	return 2*float64(p.VisionCore)*n + 4*n*n*float64(m.Vision.HiddenSize*m.Vision.Depth)
}

// Verdict is nil unless the machine was too busy for overlap to show.
func (b Streams) Verdict() error {
	if r := b.Results[0]; r.Backend == "host" && r.Overlap.Ceiling < leastCeiling {
		return verdict.Unsure.Errorf("the machine is too busy to show overlap: two streams without any dependency gained "+
			"%.2fx",
			r.Overlap.Ceiling)
	}
	return nil
}

// PipelineOf is the pipeline of an image, WIDTHxHEIGHT, through a model by name or file.
func PipelineOf(name, image string, repeats int) (StreamOptions, error) {
	model, err := catalog.Model(name)
	if err != nil {
		return StreamOptions{}, err
	}
	width, height, err := profile.ParseImage(image)
	if err != nil {
		return StreamOptions{}, err
	}
	grid, err := model.ImageGrid(width, height)
	return StreamOptions{Model: &model, Grid: grid, Repeats: repeats}, err
}
