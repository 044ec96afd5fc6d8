package advise

import (
	"errors"
	"testing"

	"github.com/vlmem/vlmem/internal/speed"
)

func rated(precision string, decode, first float64, context int) Choice {
	return Choice{Precision: precision, Context: context, Speed: &speed.Forecast{
		Decode: speed.Range{Median: decode, Low: decode / 2, High: decode * 2}, FirstToken: speed.Range{Median: first}}}
}

func TestWhatCountsFirst(t *testing.T) {
	choices := []Choice{rated("fp16", 0.9, 60, 4096), rated("q8_0", 8, 9, 8192), rated("q4_0", 14, 12, 16384)}
	for name, tt := range map[string]struct {
		want Want
		pick string
	}{
		"precision":                  {Want{}, "fp16"},
		"speed":                      {Want{Prefer: "speed"}, "q4_0"},
		"context":                    {Want{Prefer: "context"}, "q4_0"},
		"best weights at 5 a second": {Want{TokensPerS: 5}, "q8_0"},
		"fastest first token":        {Want{Prefer: "speed", FirstTokenS: 10}, "q8_0"},
	} {
		got, _, err := (&Inputs{Want: tt.want}).prefer(choices)
		if err != nil || got.Precision != tt.pick {
			t.Errorf("%s: %q, %v; want %q", name, got.Precision, err, tt.pick)
		}
	}
	_, _, err := (&Inputs{Want: Want{TokensPerS: 100}}).prefer(choices)
	var slow *TooSlow
	if !errors.As(err, &slow) || slow.Fastest.Precision != "q4_0" {
		t.Errorf("100 tokens a second: %v", err)
	}
	if _, _, err := (&Inputs{Want: Want{TokensPerS: 1}}).prefer([]Choice{{Precision: "q8_0"}}); err == nil {
		t.Error("a choice of unknown speed is as fast as was asked")
	}
}
