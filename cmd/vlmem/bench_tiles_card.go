package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/card"
)

// cardTiles is what bench tiles --gpu prints: every compiled kernel on this machine's first card.
type cardTiles struct {
	Card   string      `json:"card" yaml:"card"`
	Driver int         `json:"driver" yaml:"driver"` // the newest CUDA it speaks
	Shapes []cardShape `json:"shapes" yaml:"shapes"`
	// Agreement is the rank correlation of measured and predicted times over the kernels of all shapes.
	Agreement *float64 `json:"agreement,omitempty" yaml:"agreement,omitempty"`
}

// cardShape is the kernels that can do one shape, the fastest first.
type cardShape struct {
	Shape string `json:"shape" yaml:"shape"`
	// from an earlier run with this card and driver
	Recalled bool `json:"recalled" yaml:"recalled"`
	// rank correlation of measured and predicted
	Agreement *float64      `json:"agreement,omitempty" yaml:"agreement,omitempty"`
	Kernels   []card.Timing `json:"kernels" yaml:"kernels"`
}

// timeOnCard times the shapes on the first card of the driver at library, "" for the system's. memory keeps the
// timings.
func timeOnCard(library string, memory card.Memory, fresh bool, shapes []tileShape) (result *cardTiles, err error) {
	driver, err := cuda.Open(library)
	if err != nil {
		return nil, exitWith(exitUnable, fmt.Errorf("timing tiles on a card: %w", err))
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	ctx, err := driver.Retain(0)
	if err != nil {
		return nil, exitWith(exitUnable, fmt.Errorf("timing tiles on a card: %w", err))
	}
	defer func() { err = errors.Join(err, ctx.Release()) }()
	var hardware profile.Hardware
	probe.CardsAt(&hardware, library, false)
	if len(hardware.GPUs) == 0 {
		return nil, exitWith(exitUnable, fmt.Errorf("timing tiles on a card: %s", hardware.Unknown["gpus"]))
	}
	var all []card.Timing
	result = &cardTiles{Card: ctx.Device().Name, Driver: driver.Version()}
	for _, s := range shapes {
		shape := cardShape{Shape: s.String()}
		key := card.Key(ctx.Device().UUID, strconv.Itoa(driver.Version()), shape.Shape)
		if !fresh {
			if shape.Kernels, err = memory.Recall(key); err != nil {
				return nil, err
			}
		}
		if shape.Recalled = shape.Kernels != nil; !shape.Recalled {
			shape.Kernels, err = timeShape(ctx, hardware.GPUs[0], s)
			if err == nil {
				err = memory.Keep(key, shape.Kernels)
			}
			if err != nil {
				return nil, exitWith(exitUnable, err)
			}
		}
		shape.Agreement = agreement(shape.Kernels)
		result.Shapes, all = append(result.Shapes, shape), append(all, shape.Kernels...)
	}
	result.Agreement = agreement(all)
	return result, nil
}

// agreement is absent where too few kernels have a prediction.
func agreement(kernels []card.Timing) *float64 {
	r := card.Agreement(kernels)
	if math.IsNaN(r) {
		return nil
	}
	return &r
}

func timeShape(ctx *cuda.Context, gpu profile.GPU, s tileShape) ([]card.Timing, error) {
	if !s.attention {
		return card.Product(ctx, gpu, tiling.MatMulWork{M: s.size[0], N: s.size[1], K: s.size[2]})
	}
	return card.Attention(ctx, gpu, s.size[2], tiling.AttentionWork{Queries: s.size[0], Keys: s.size[1],
		Heads: predictedHeads, KVHeads: predictedKVHeads, KV: profile.FP16})
}

// cardMemory is the file that keeps timings, in the user's cache folder.
func cardMemory() (card.Memory, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return card.Memory{}, exitWith(exitUnable, fmt.Errorf("finding a place to keep timings: %w", err))
	}
	return card.Memory{Path: filepath.Join(folder, "vlmem", "tiles.json")}, nil
}

func (r *cardTiles) write(w io.Writer) error {
	fmt.Fprintf(w, "%s, driver for CUDA %d.%d, measured between events\n", r.Card, r.Driver/1000, r.Driver%1000/10)
	kernels := 0
	for _, s := range r.Shapes {
		from := ""
		if s.Recalled {
			from = ", recalled from an earlier run"
		}
		fmt.Fprintf(w, "\n%s%s\n", s.Shape, from)
		var rows [][]string
		for _, k := range s.Kernels {
			rows = append(rows, []string{k.Entry, fmt.Sprintf("%.3f ms", 1e3*k.Seconds),
				fmt.Sprintf("%.3f ms", 1e3*k.PredictedSeconds), k.Limit,
				fmt.Sprint(k.Registers), fmt.Sprint(k.BlocksPerSM), fmt.Sprintf("%.1e", k.LargestError)})
		}
		if err := report.Table(w, []string{"KERNEL", "MEASURED", "PREDICTED", "LIMIT", "REGISTERS", "BLOCKS/SM", "ERROR"},
			rows, 1, 2, 4, 5, 6); err != nil {
			return err
		}
		if s.Agreement != nil {
			fmt.Fprintf(w, "rank correlation of measured and predicted times over %d kernels: %.2f\n", len(s.Kernels),
				*s.Agreement)
		}
		kernels += len(s.Kernels)
	}
	if r.Agreement != nil && len(r.Shapes) > 1 {
		fmt.Fprintf(w, "\nover all %d: %.2f\n", kernels, *r.Agreement)
	}
	return nil
}
