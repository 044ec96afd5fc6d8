package report

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/tiling/search"
)

func TestHeatMap(t *testing.T) {
	var b strings.Builder
	heatMap(&b, search.Contest{Axes: [2]string{"kc", "mc"}, Heat: []search.Point{
		{Row: 320, Column: 96, GFLOPS: 95}, {Row: 160, Column: 192, GFLOPS: 50}, {Row: 160, Column: 96, GFLOPS: 100},
	}})
	want := "\nper cent of 100.0 GFLOP/s, kc down, mc across\n            96   192\n     160  100#   50\n     320   95+\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestCardTiles(t *testing.T) {
	one := 1.0
	shape := contest.ShapeTimings{Shape: "64x64x64", Recalled: true, Agreement: &one,
		Kernels: []card.Timing{{Entry: "a", Seconds: 1e-3, PredictedSeconds: 2e-3},
			{Entry: "b", Seconds: 2e-3, PredictedSeconds: 3e-3}}}
	var b strings.Builder
	err := CardTiles(&b, "table", &contest.CardTimings{Card: "MX350", Driver: 12080,
		Shapes: []contest.ShapeTimings{shape, shape}, Agreement: &one})
	if err != nil || !strings.Contains(b.String(), "recalled") || !strings.Contains(b.String(), "2 kernels: 1.00") ||
		!strings.Contains(b.String(), "over all 4: 1.00") {
		t.Errorf("%v\n%s", err, b.String())
	}
}
