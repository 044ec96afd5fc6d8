package contest

import (
	"errors"
	"math"
	"strconv"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/internal/verdict"
)

// CardTimings is what bench tiles --gpu prints: every compiled kernel on this machine's first card.
type CardTimings struct {
	Card   string         `json:"card" yaml:"card"`
	Driver int            `json:"driver" yaml:"driver"` // the newest CUDA it speaks
	Shapes []ShapeTimings `json:"shapes" yaml:"shapes"`
	// Agreement is the rank correlation of measured and predicted times over the kernels of all shapes.
	Agreement *float64 `json:"agreement,omitempty" yaml:"agreement,omitempty"`
}

// ShapeTimings is the kernels that can do one shape, the fastest first.
type ShapeTimings struct {
	Shape string `json:"shape" yaml:"shape"`
	// from an earlier run with this card and driver
	Recalled bool `json:"recalled" yaml:"recalled"`
	// rank correlation of measured and predicted
	Agreement *float64      `json:"agreement,omitempty" yaml:"agreement,omitempty"`
	Kernels   []card.Timing `json:"kernels" yaml:"kernels"`
}

// OnCard times the shapes on the first card of the driver at library, "" for the system's. gpu describes it, and
// memory keeps the timings.
func OnCard(library string, gpu func() (profile.GPU, error), memory card.Memory, fresh bool,
	shapes []Shape) (result *CardTimings, err error) {
	driver, err := cuda.Open(library)
	if err != nil {
		return nil, verdict.Unable.Errorf("timing tiles on a card: %w", err)
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	ctx, err := driver.Retain(0)
	if err != nil {
		return nil, verdict.Unable.Errorf("timing tiles on a card: %w", err)
	}
	defer func() { err = errors.Join(err, ctx.Release()) }()
	described, err := gpu()
	if err != nil {
		return nil, verdict.Unable.Errorf("timing tiles on a card: %w", err)
	}
	var all []card.Timing
	result = &CardTimings{Card: ctx.Device().Name, Driver: driver.Version()}
	for _, s := range shapes {
		shape := ShapeTimings{Shape: s.String()}
		key := card.Key(ctx.Device().UUID, strconv.Itoa(driver.Version()), shape.Shape)
		if !fresh {
			if shape.Kernels, err = memory.Recall(key); err != nil {
				return nil, err
			}
		}
		if shape.Recalled = shape.Kernels != nil; !shape.Recalled {
			shape.Kernels, err = timeShape(ctx, s)
			if err == nil {
				err = memory.Keep(key, shape.Kernels)
			}
			if err != nil {
				return nil, verdict.Unable.Of(err)
			}
		}
		if err := s.Predict(described, shape.Kernels); err != nil {
			return nil, err
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

func timeShape(ctx *cuda.Context, s Shape) ([]card.Timing, error) {
	if !s.attention {
		return card.Product(ctx, s.product())
	}
	return card.Attention(ctx, s.size[2], s.cardAttention())
}

// Predict sets what the model of tiles says of kernels that were timed on this shape.
func (s Shape) Predict(gpu profile.GPU, kernels []card.Timing) error {
	if !s.attention {
		return card.PredictProduct(kernels, gpu, s.product())
	}
	return card.PredictAttention(kernels, gpu, s.size[2], s.cardAttention())
}

func (s Shape) product() tiling.MatMulWork {
	return tiling.MatMulWork{M: s.size[0], N: s.size[1], K: s.size[2]}
}

func (s Shape) cardAttention() tiling.AttentionWork {
	return tiling.AttentionWork{Queries: s.size[0], Keys: s.size[1], Heads: predictedHeads, KVHeads: predictedKVHeads,
		KV: profile.FP16}
}
