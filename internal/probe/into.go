package probe

import (
	"context"
	"errors"
	"math"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// MeasureInto adds to this machine's report what timing finds. Where there is too little memory to time anything, the
// report stands with a warning.
func MeasureInto(ctx context.Context, h *profile.Hardware, deep bool, progress func(done, of int)) error {
	m, err := Measure(ctx, Options{Hardware: *h, Deep: deep, Progress: progress})
	switch {
	case errors.Is(err, ErrTooLittleMemory):
		h.Unknown["measured"] = err.Error()
		h.Warnings = append(h.Warnings, evidence.Warn(Untimed, "%v: this is what the machine reports", err))
		return nil
	case err != nil:
		return verdict.Unable.Of(err)
	}
	m.Into(h)
	return nil
}

// Fillable is the memory that this machine or its control group has left, or more than any where it does not say.
func Fillable() units.Bytes {
	h, err := Reported("/")
	if err != nil || h.Memory == nil || h.Memory.FillableBytes == nil {
		return math.MaxInt64
	}
	return *h.Memory.FillableBytes
}
