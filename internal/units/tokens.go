package units

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseTokens reads a number of tokens as people write it: 8192, 8,192, 8k or 0.5M. Of tokens k is 1,024 and m its
// square, as in names of models and their contexts.
func ParseTokens(s string) (int, error) {
	text, scale := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(s), ",", "")), 1
	for suffix, by := range map[string]int{"k": 1 << 10, "m": 1 << 20} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, scale = strings.TrimSpace(rest), by
			break
		}
	}
	if scale == 1 {
		if n, err := strconv.Atoi(text); err == nil {
			return n, nil
		}
	} else if f, err := strconv.ParseFloat(text, 64); err == nil && f >= 0 && f*float64(scale) < math.MaxInt32 &&
		f*float64(scale) == math.Trunc(f*float64(scale)) {
		return int(f * float64(scale)), nil
	}
	return 0, fmt.Errorf("%q is no number of tokens such as 8192 or 8k", s)
}
