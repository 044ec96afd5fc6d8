package advise

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// everySplit is the first number of layers on the host at which an estimate fits, by trying all; 0 where none does.
func everySplit(t *testing.T, in *Inputs, e *engine.Engine, quant string) int {
	for n := 1; n <= in.Model.Text.Layers+1; n++ {
		if fitsSplit(t, in, e, quant, n) {
			return n
		}
	}
	return 0
}

func fitsSplit(t *testing.T, in *Inputs, e *engine.Engine, quant string, n int) bool {
	t.Helper()
	a := attempt{limits: in.Limits, quant: quant, hostLayers: n}
	a.options = in.options(e, a)
	mem, err := in.estimate(e, a.options)
	if err != nil {
		t.Fatal(err)
	}
	most, _, _ := in.overflow(e, mem, &a)
	return most == 0
}

// machineOf is a laptop with a card, each with so much memory.
func machineOf(t *testing.T, card string, device, host units.Bytes) profile.Hardware {
	t.Helper()
	laptop, err := profiles.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	c, err := profiles.Hardware(card)
	if err != nil {
		t.Fatal(err)
	}
	h := profile.Combine(laptop, c)
	memory := *h.Memory
	h.GPUs[0].MemoryBytes, memory.TotalBytes = device, host
	h.Memory = &memory
	return h
}

// TestTheFirstSplitIsFoundWithoutTryingAll holds the search against every number of layers, on cards of their own
// memory and of the host's; and Locate, which looks at the smallest limits early, against the order that Deploy goes
// in.
func TestTheFirstSplitIsFoundWithoutTryingAll(t *testing.T) {
	if testing.Short() {
		t.Skip("tries every split")
	}
	e := engine.Anywhere()
	for _, name := range []string{"qwen3-vl-2b", "qwen3-vl-30b-a3b"} {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		known := &Estimates{}
		for _, card := range []string{"gtx-1080", "agx-orin-64gb"} {
			for _, device := range []units.Bytes{1, 2, 8, 14} {
				for _, host := range []units.Bytes{2, 9, 20} {
					in := Inputs{Hardware: machineOf(t, card, device*units.GiB, host*units.GiB), Model: m, Engine: e.Name,
						Known: known, Limits: Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
					want, got := everySplit(t, &in, e, "q4_k_m"), 0
					layersAlone := *e
					layersAlone.Savings = nil
					for _, a := range in.away(&layersAlone, attempt{limits: in.Limits, quant: "q4_k_m"}) {
						if fitsSplit(t, &in, e, "q4_k_m", a.hostLayers) {
							got = a.hostLayers
						}
					}
					if got != want {
						t.Errorf("%s on %s, %d GiB beside %d GiB: %d layers on the host, want %d", name, card, device, host, got, want)
					}
					holdLocate(t, in, e)
				}
			}
		}
	}
}

func holdLocate(t *testing.T, in Inputs, e *engine.Engine) {
	t.Helper()
	p, err := Locate(in)
	d, short, _ := in.settleOn(e)
	var missing *Shortfall
	switch {
	case errors.As(err, &missing) && short != nil:
	case err != nil || short != nil || p.Limits != d.Limits || p.Precision != d.Memory.Quant ||
		p.Layers != max(0, in.Model.Text.Layers-d.Options.HostLayers):
		t.Errorf("%s: %+v, %v; want %+v, %v", in.Model.Name, p.Choice, err, d.Limits, short)
	}
}

// TestProcessorsDoNotMatterToWhatLiesOnTheCard: estimates that machines share are equal whatever the processor.
func TestProcessorsDoNotMatterToWhatLiesOnTheCard(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for seconds")
	}
	e := engine.Anywhere()
	sse, amx := &profile.CPU{Model: "x", ISA: []string{"sse4_2"}}, &profile.CPU{Model: "x",
		ISA: []string{"avx2", "avx512f",
			"avx512bw", "avx512_vnni", "amx_int8", "amx_tile"}}
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		if Serving(&m) == "" {
			continue
		}
		for _, quant := range e.Ladder {
			in := Inputs{Hardware: machineOf(t, "gtx-1080", units.GiB, units.GiB), Model: m,
				Limits: Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
			var seen [2]*engine.Memory
			for i, cpu := range []*profile.CPU{sse, amx} {
				in.Hardware.CPU = cpu
				if seen[i], err = in.estimate(e, in.options(e, attempt{limits: in.Limits, quant: quant})); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.EqualFunc(seen[0].Items, seen[1].Items, func(a, b engine.Item) bool {
				return a.Name == b.Name && a.Where == b.Where && a.Bytes == b.Bytes && a.Low == b.Low && a.High == b.High
			}) {
				t.Errorf("%s in %s: %+v, with another processor %+v", name, quant, seen[0].Items, seen[1].Items)
			}
		}
	}
}

// TestCrossingIsTheFirst holds the search, with what other machines tried and a least step, against trying all.
func TestCrossingIsTheFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		falls := rapid.SliceOfN(rapid.IntRange(0, 50), 1, 120).Draw(t, "falls")
		least := units.Bytes(slices.Min(falls))
		need := make([]units.Bytes, len(falls)+1)
		for i := len(falls) - 1; i >= 0; i-- {
			need[i] = need[i+1] + units.Bytes(falls[i])
		}
		of := series{known: &Estimates{}}
		for range rapid.IntRange(1, 6).Draw(t, "machines") {
			room := units.Bytes(rapid.IntRange(-1, int(need[0])+1).Draw(t, "room"))
			want := slices.IndexFunc(need, func(n units.Bytes) bool { return n <= room })
			if want < 0 {
				want = len(falls)
			}
			if got := of.crossing(0, len(falls), func(n int) gap { return gap{need[n] - room, least} }); got != want {
				t.Fatalf("%v in %d: %d, want %d", need, room, got, want)
			}
		}
	})
}

// TestMachinesDoNotMatterToEachOther: where estimates are shared, a machine's answer is what it is alone.
func TestMachinesDoNotMatterToEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for seconds")
	}
	for _, name := range []string{"qwen3-vl-4b", "qwen3-vl-30b-a3b"} {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		shared := &Estimates{}
		for _, device := range []units.Bytes{3, 24, 7, 5, 6, 80} {
			in := Inputs{Hardware: machineOf(t, "gtx-1080", device*units.GiB, 16*units.GiB), Model: m,
				Engine: engine.Anywhere().Name, Known: shared,
				Limits: Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
			beside, err := Locate(in)
			in.Known = &Estimates{}
			alone, errAlone := Locate(in)
			if (err == nil) != (errAlone == nil) || beside.Context != alone.Context || beside.Layers != alone.Layers ||
				beside.Precision != alone.Precision || beside.Limits != alone.Limits {
				t.Errorf("%s on %d GiB: %+v (%v) beside others, %+v (%v) alone", name, device, beside.Choice, err, alone.Choice,
					errAlone)
			}
		}
	}
}
