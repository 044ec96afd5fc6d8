// Package units holds the quantities that vlmem prints: bytes and rates.
//
// Inside the program every quantity is in base units (bytes, bytes per second, seconds); it is scaled only when
// printed. Sizes scale by 1024 and carry IEC suffixes (48 KiB, 5.4 MiB); rates scale by 1000 and carry SI suffixes
// (33.8 GB/s), because that is how memory vendors state them. The two are never mixed: 1 MB read from a file means
// 1,000,000 bytes.
package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Bytes is a size in bytes.
type Bytes int64

// The IEC multiples of a byte.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
	PiB
)

var iec = []struct {
	size   Bytes
	suffix string
}{{PiB, "PiB"}, {TiB, "TiB"}, {GiB, "GiB"}, {MiB, "MiB"}, {KiB, "KiB"}}

// suffixes are the spellings ParseBytes accepts, lower-cased, in bytes each.
var suffixes = map[string]float64{
	"": 1, "b": 1,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40, "pi": 1 << 50,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
}

// String scales b to the largest IEC multiple not above it, with one decimal where it is not whole: "32 KiB", "5.4
// MiB".
func (b Bytes) String() string {
	for _, u := range iec {
		if b >= u.size || -b >= u.size {
			return strings.TrimSuffix(strconv.FormatFloat(float64(b)/float64(u.size), 'f', 1, 64), ".0") + " " + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10) + " B"
}

// ParseBytes reads a size such as "48 KiB", "1.5GiB", "8GB" (SI, 8e9 bytes) or "4096".
// It refuses negative sizes, unknown suffixes and what does not fit an int64.
func ParseBytes(s string) (Bytes, error) {
	text := strings.TrimSpace(s)
	cut := strings.LastIndexAny(text, "0123456789.") + 1
	number, suffix := strings.ReplaceAll(strings.TrimSpace(text[:cut]), ",", ""),
		strings.ToLower(strings.TrimSpace(text[cut:]))
	scale, ok := suffixes[suffix]
	if !ok || number == "" {
		return 0, fmt.Errorf("size %q: want a number with KiB, MiB, GiB or a plain count of bytes", s)
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && scale == 1 {
		if n < 0 {
			return 0, fmt.Errorf("size %q is negative", s)
		}
		return Bytes(n), nil
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, fmt.Errorf("size %q: want a number with KiB, MiB, GiB or a plain count of bytes", s)
	}
	switch v *= scale; {
	case v < 0:
		return 0, fmt.Errorf("size %q is negative", s)
	case v >= math.MaxInt64:
		return 0, fmt.Errorf("size %q does not fit 63 bits", s)
	}
	return Bytes(math.Round(v)), nil
}

// UnmarshalYAML accepts what ParseBytes does.
func (b *Bytes) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseBytes(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return fmt.Errorf("size %q: want a count of bytes such as 49152 or 48 KiB, not negative", n.Value)
	}
	*b = v
	return nil
}

// Rate is a rate in bytes per second.
type Rate float64

// String scales r to SI: "33.8 GB/s".
func (r Rate) String() string {
	switch v := math.Abs(float64(r)); {
	case v >= 1e12:
		return fmt.Sprintf("%.1f TB/s", r/1e12)
	case v >= 1e9:
		return fmt.Sprintf("%.1f GB/s", r/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.1f MB/s", r/1e6)
	}
	return fmt.Sprintf("%.0f B/s", float64(r))
}

// Grouped writes n with a comma every three digits: 147,456.
func Grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
