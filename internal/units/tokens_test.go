package units

import "testing"

func TestParseTokens(t *testing.T) {
	for text, want := range map[string]int{"8192": 8192, "8,192": 8192, "8k": 8192, " 32 K ": 32768, "0.5M": 1 << 19,
		"1m": 1 << 20,
		"0":  0, "-1": -1, "1.5k": 1536} {
		if got, err := ParseTokens(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "k", "8kb", "-1k", "1.0001k", "nan", "infm", "1e3", "9999999999999999999",
		"99999m"} {
		if got, err := ParseTokens(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}
