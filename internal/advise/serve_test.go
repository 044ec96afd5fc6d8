package advise_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// TestOneVerdict asks for the configuration and for the engine's own files on several machines: precision, context,
// image and verdict are one, every account adds up, and nothing that is over with each item at its most is said to
// fit.
func TestOneVerdict(t *testing.T) {
	for _, hardware := range []string{"i5-10210u", "gtx-1080", "gtx-1080-ti"} {
		h, err := profiles.Hardware("i5-10210u")
		if err != nil {
			t.Fatal(err)
		}
		if hardware != h.Name {
			card, err := profiles.Hardware(hardware)
			if err != nil {
				t.Fatal(err)
			}
			h.GPUs = card.GPUs
		}
		for _, name := range []string{"qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"} {
			m, err := profiles.Model(name)
			if err != nil {
				t.Fatal(err)
			}
			in := advise.Inputs{Hardware: h, Model: m, Engine: advise.Serving(&m),
				Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
			d, err := advise.Deploy(in.Engine, in)
			settled := in
			if e := settled.Settle(""); e != nil {
				t.Fatal(e)
			}
			choices, e := advise.Compare(settled)
			if e != nil || settled.Fits() != (err == nil) || (len(choices) == 0) != (err != nil) {
				t.Errorf("%s on %s: %d choices, %v, fits %v; for %s %v", name, hardware, len(choices), e, settled.Fits(),
					in.Engine, err)
			}
			if err != nil {
				continue
			}
			if settled.Limits != d.Limits {
				t.Errorf("%s on %s: %+v; for %s %+v", name, hardware, settled.Limits, in.Engine, d.Limits)
			}
			i := slices.IndexFunc(choices, func(c advise.Choice) bool { return c.Precision == d.Memory.Quant })
			if i < 0 || choices[i].Verdict != d.Verdict || choices[i].Of-choices[i].Layers != offCard(&d, choices[i].Of) {
				t.Errorf("%s on %s: %+v; for %s %s, %s", name, hardware, choices, in.Engine, d.Memory.Quant, d.Verdict)
			}
			if over := overAtMost(&d, h.Memory.TotalBytes); over != strings.HasPrefix(d.Verdict, "fits if") {
				t.Errorf("%s on %s: over at its most %v, and %q", name, hardware, over, d.Verdict)
			}
		}
	}
}

// offCard is the layers on the host: all of them where no card is used.
func offCard(d *advise.Deployment, layers int) int {
	if d.Settings.GPU == nil {
		return layers
	}
	return min(layers, d.Options.HostLayers)
}

// overAtMost adds the host's items at their most to 3 GiB of system and process.
func overAtMost(d *advise.Deployment, total units.Bytes) bool {
	sum := 3 * units.GiB
	for _, i := range d.Memory.Items {
		if i.Where == "host" && i.Name != engine.FilePages {
			sum += i.High
		}
	}
	return sum > total
}
