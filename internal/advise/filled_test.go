package advise_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// What is written for cards that others have filled in part starts there, by the engine's own estimate asked again, and
// where nothing does the way out is named.
func TestFilledCards(t *testing.T) {
	for _, c := range []struct {
		free  []float64 // GiB of each RTX 3090
		share float64   // at most, that vLLM is given
		would string    // "" where it fits
	}{
		{[]float64{23.3}, 0.92, ""}, {[]float64{16}, 0.63, ""}, {[]float64{16, 15.5}, 0.61, ""},
		{[]float64{0}, 0, "--assume-idle"}, {[]float64{1, 23}, 0, "CUDA_VISIBLE_DEVICES=1"},
	} {
		in := inputs(t, "qwen3-vl-4b", "i5-10210u", "rtx-3090")
		card := in.Hardware.GPUs[0]
		in.Hardware.GPUs = nil
		for _, gib := range c.free {
			card.FreeBytes = new(units.Bytes(gib * float64(units.GiB)))
			in.Hardware.GPUs = append(in.Hardware.GPUs, card)
		}
		for _, name := range []string{"vllm", "sglang"} {
			d, err := advise.Deploy(name, in)
			if c.would != "" {
				if short := (*advise.Shortfall)(nil); errors.As(err, &short) {
					if !strings.Contains(strings.Join(short.WouldFit, " "), c.would) {
						t.Errorf("%s, %v free: %v", name, c.free, err)
					}
				} else if refused := (*engine.Refusal)(nil); name == "vllm" || !errors.As(err, &refused) {
					t.Errorf("%s, %v free: %v", name, c.free, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s, %v free: %v", name, c.free, err)
				continue
			}
			if w := d.Memory.Withheld; w != (engine.Withheld{}) || name == "vllm" && d.Settings.Share > c.share {
				t.Errorf("%s, %v free: a share of %g, %+v", name, c.free, d.Settings.Share, w)
			}
			for _, w := range d.Memory.Warnings {
				if slices.Contains([]string{string(engine.WillNotStart), string(engine.MayNotStart)}, string(w.Code)) {
					t.Errorf("%s, %v free: %s", name, c.free, w.Text)
				}
			}
		}
	}
}
