package settings

import (
	"fmt"
	"math"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/units"
)

// Most is the largest value of a flag that counts something. What is computed from flags within these bounds, with a
// model within its own, fits 63 bits, and lists that are held in memory stay below some gigabytes.
type Most struct {
	flag         string
	value, limit int
}

// AtMost bounds a flag.
func AtMost(flag string, value, limit int) Most { return Most{flag, value, limit} }

// The bounds that several flags share.
const (
	MostTokens    = 1 << 27 // a hundred times the longest context of today
	MostBatch     = 1 << 17 // tokens computed at once
	MostSequences = 1 << 12
	MostFrames    = 1 << 16
)

// Within refuses the first flag beyond its bound. Below zero a flag has its own meaning, or its own message.
func Within(flags ...Most) error {
	for _, f := range flags {
		if f.value > f.limit {
			return fmt.Errorf("--%s %d: at most %d make sense", f.flag, f.value, f.limit)
		}
	}
	return nil
}

// FromOne refuses counts that were given and are none: left out they are the program's own.
func FromOne(flags *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		if n, err := flags.GetInt(name); err == nil && n < 1 && flags.Changed(name) {
			return fmt.Errorf("--%s %d: want at least 1", name, n)
		}
	}
	return nil
}

// Share refuses what is no share of a memory: a number above 0 and not above 1.
func Share(flag string, value float64) error {
	if math.IsNaN(value) || value <= 0 || value > 1 {
		return fmt.Errorf("--%s %v: want a share above 0 and at most 1, such as 0.9", flag, value)
	}
	return nil
}

// Size reads a size in bytes, 0 where the flag was not given.
func Size(flag, text string) (units.Bytes, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", flag, err)
	}
	return n, nil
}

// SomeBytes reads a size in bytes above zero, 0 where the flag was not given.
func SomeBytes(flag, text string) (units.Bytes, error) {
	n, err := Size(flag, text)
	if text != "" && (err != nil || n <= 0) {
		return 0, fmt.Errorf("--%s %s: want a size above zero, such as 6GiB", flag, text)
	}
	return n, nil
}

// Alignment reads what sizes are rounded up to, 0 where the flag was not given.
func Alignment(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	a, err := units.ParseBytes(text)
	if err != nil || a < 1 || a&(a-1) != 0 || a > units.GiB {
		return 0, fmt.Errorf("reading --%s %q: want a power of two of at most 1 GiB, such as 512 or 2MiB", flag, text)
	}
	return int64(a), nil
}
