package advise_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// TestBudgetPlansWithWhatIsLeft: totals and limits are no room, what other programs hold of them is not to be had.
func TestBudgetPlansWithWhatIsLeft(t *testing.T) {
	size := func(b units.Bytes) *units.Bytes { return &b }
	in := inputs(t, "qwen3-vl-2b", "i5-10210u")
	in.Hardware.Memory = &profile.Memory{TotalBytes: 32 * units.GiB, LimitBytes: size(28 * units.GiB),
		AvailableBytes: size(units.GiB), PageBytes: 4 * units.KiB, Bounds: []profile.Bound{
			profile.NewBound("host memory", "/proc/meminfo", 32*units.GiB, units.GiB),
			profile.NewBound("control group /", "/sys/fs/cgroup/memory.max", 28*units.GiB, 20*units.GiB)}}
	if a, err := advise.Make(in); err == nil {
		t.Errorf("a gibibyte holds %s in %s", a.Model.Name.Value, a.Budget.Precision.Value)
	}
	in.AssumeIdle = true
	a, err := advise.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "host", a.Budget.Host)
	if a.Budget.Host.Capacity.Value != 28*units.GiB || a.Budget.Precision.Value != "fp16" {
		t.Errorf("idle: %s, %s", a.Budget.Host.Capacity.Value, a.Budget.Precision.Value)
	}
}

// TestWhatIsCalledFreeCanBeFilled: whichever bound binds, no figure of a budget promises more than it leaves, and what
// runs a little more writes the same configuration.
func TestWhatIsCalledFreeCanBeFilled(t *testing.T) {
	host := profile.NewBound("host memory", "/proc/meminfo", 32*units.GiB, 30*units.GiB)
	high := profile.NewBound("control group /a, throttles", "/sys/fs/cgroup/a/memory.high", 12*units.GiB, 7*units.GiB)
	high.Throttles = true
	space := profile.NewBound("address space", "/proc/self/limits", 9*units.GiB, 8*units.GiB)
	space.Virtual = true
	for name, bounds := range map[string][]profile.Bound{
		"host":   {host},
		"group":  {host, profile.NewBound("control group /a", "/sys/fs/cgroup/a/memory.max", 10*units.GiB, 7*units.GiB)},
		"high":   {host, high},
		"space":  {host, space},
		"nested": {host, profile.NewBound("control group /a/b", "", 20*units.GiB, 15*units.GiB), high},
		// Pages need tables, addresses none: of these two the group's lets less be filled.
		"alike": {host, profile.NewBound("control group /a", "", 9*units.GiB, 8*units.GiB+units.MiB), space},
	} {
		in := inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080")
		in.Hardware.GPUs[0].FreeBytes = new(in.Hardware.GPUs[0].MemoryBytes - 1234*units.MiB)
		m := &profile.Memory{TotalBytes: 32 * units.GiB, PageBytes: 4 * units.KiB, Bounds: bounds}
		m.Bind()
		in.Hardware.Memory = m
		made := func() advise.Budget {
			a, err := advise.Make(in)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			check(t, name, a.Budget.Host)
			check(t, name, *a.Budget.Device)
			return a.Budget
		}
		first := made()
		if got := first.Host.Fillable; got == nil || got.Value != *m.FillableBytes {
			t.Errorf("%s: %v may be filled, want %s", name, got, *m.FillableBytes)
		}
		for where, p := range map[string]struct {
			*advise.Side
			own units.Bytes // of other, what is not in use now
		}{"host": {&first.Host, 512 * units.MiB}, "card": {first.Device, 256 * units.MiB}} {
			if left := p.Capacity.Value - (p.Other.Value - p.own); left > p.Fillable.Value || p.Free.Value < 0 {
				t.Errorf("%s, %s: the account leaves %s of %s, %s free", name, where, left, p.Fillable.Value, p.Free.Value)
			}
		}
		for i := range m.Bounds {
			m.Bounds[i] = profile.NewBound(m.Bounds[i].Name, m.Bounds[i].Source, m.Bounds[i].LimitBytes,
				m.Bounds[i].LeftBytes-10*units.MiB)
		}
		*in.Hardware.GPUs[0].FreeBytes -= 10 * units.MiB
		again := made()
		for where, p := range map[string][2]advise.Side{"host": {first.Host, again.Host},
			"card": {*first.Device, *again.Device}} {
			if p[0].Other.Value != p[1].Other.Value || p[0].Free.Value != p[1].Free.Value {
				t.Errorf("%s, %s: %s free, then %s", name, where, p[0].Free.Value, p[1].Free.Value)
			}
		}
	}
}

// TestThreadsAreThoseOfTheProcess holds the quota against every place that names threads.
func TestThreadsAreThoseOfTheProcess(t *testing.T) {
	quota := 2.0
	in := inputs(t, "qwen3-vl-2b", "i5-10210u")
	in.Hardware.Memory = &profile.Memory{TotalBytes: 32 * units.GiB}
	in.Hardware.System = &profile.System{CPUQuota: &quota}
	a, err := advise.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Tiles.CPU.Threads.Value; got != 2 {
		t.Errorf("tiles for %d threads", got)
	}
	for target, says := range map[string]string{"llama-server": "--threads 2", "ollama": "num_thread 2",
		"transformers": `"set_num_threads": 2`, "openvino": `"INFERENCE_NUM_THREADS": 2`,
		"onnxruntime-genai": `"intra_op_num_threads": 2`, "sglang": "OMP_NUM_THREADS=2", "vllm": "here 2 are of use"} {
		in := in
		if target == "sglang" || target == "vllm" { // with a card, for which a bounded processor still prepares images
			in.Hardware.GPUs = []profile.GPU{ampere(24 * units.GiB)}
		}
		d, err := advise.Deploy(target, in)
		if err != nil {
			t.Fatal(err)
		}
		if d.Settings.Threads != 2 || d.Settings.ThreadsWhy == "" {
			t.Errorf("%s: %d threads, %q", target, d.Settings.Threads, d.Settings.ThreadsWhy)
		}
		b, err := engine.Write(target, d.Settings)
		if err != nil {
			t.Fatal(err)
		}
		if written := fmt.Sprint(b.Files, b.Notes); !strings.Contains(written, says) ||
			!strings.Contains(written, "limited to 2 CPUs") &&
				!strings.HasSuffix(b.Files[0].Name, ".json") {
			t.Errorf("%s says nowhere %q and why: %s", target, says, written)
		}
	}
}

// TestUnifiedMemoryIsOneBudget: what the card takes the host no longer has.
func TestUnifiedMemoryIsOneBudget(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for seconds")
	}
	in := inputs(t, "qwen3-vl-8b", "i5-10210u", "gtx-1080")
	g := &in.Hardware.GPUs[0]
	g.UnifiedMemory, g.MemoryBytes, g.FreeBytes = true, 10*units.GiB, new(9*units.GiB)
	in.Hardware.Memory = &profile.Memory{TotalBytes: 10 * units.GiB, PageBytes: 4 * units.KiB, Bounds: []profile.Bound{
		profile.NewBound("host memory", "/proc/meminfo", 10*units.GiB, 9*units.GiB)}}
	a, err := advise.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "card", *a.Budget.Device)
	check(t, "host", a.Budget.Host)
	d, h := a.Budget.Device, a.Budget.Host
	if taken := d.Capacity.Value - d.Free.Value + h.Capacity.Value - h.Free.Value; taken > 10*units.GiB {
		t.Errorf("card and host together take %s", taken)
	}
	// Five gibibytes hold no 4-bit 8B, nor do five on the card and five more beside it.
	in.Hardware.Memory.Bounds[0] = profile.NewBound("host memory", "/proc/meminfo", 10*units.GiB, 5*units.GiB)
	if a, err := advise.Make(in); err == nil {
		t.Errorf("fits with %d layers on the card", a.Budget.LayersOnDevice.Value)
	}
	if d, err := advise.Deploy("llama-server", in); err == nil {
		t.Errorf("llama-server fits: %q", d.Headline)
	}
}

// TestGraphicsMapAPartOfTheHost: what a processor's graphics cannot map is the host's, whose account keeps to it.
func TestGraphicsMapAPartOfTheHost(t *testing.T) {
	size := func(b units.Bytes) *units.Bytes { return &b }
	in := inputs(t, "qwen3-vl-8b", "i5-10210u")
	in.Engine = "llama-server"
	in.Hardware.Memory = &profile.Memory{TotalBytes: 32 * units.GiB, AvailableBytes: size(26 * units.GiB),
		PageBytes: 4 * units.KiB, Bounds: []profile.Bound{
			profile.NewBound("host memory", "/proc/meminfo", 32*units.GiB, 26*units.GiB)}}
	in.Hardware.Cards = []profile.Card{{Vendor: "AMD", Name: "Strix", Unified: true, Backends: []string{"vulkan"},
		VRAMBytes: size(units.GiB / 2), VRAMUsedBytes: size(0), GTTBytes: size(16 * units.GiB), GTTUsedBytes: size(0)}}
	in.Hardware.GPUs = in.Hardware.EngineCards()
	a, err := advise.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "card", *a.Budget.Device)
	check(t, "host", a.Budget.Host)
	d, h := a.Budget.Device, a.Budget.Host
	if d.Capacity.Value != 33*units.GiB/2 || h.Free.Value <= 0 ||
		h.Capacity.Value+d.Capacity.Value-d.Free.Value > 32*units.GiB {
		t.Errorf("of 32 GiB: %s on the card, %s free, and %s of the host, %s free", d.Capacity.Value, d.Free.Value,
			h.Capacity.Value, h.Free.Value)
	}
}

// TestDeployOnCardsWithoutCUDA: llama.cpp reaches AMD's card through ROCm or Vulkan; engines over CUDA run beside it.
func TestDeployOnCardsWithoutCUDA(t *testing.T) {
	size := func(b units.Bytes) *units.Bytes { return &b }
	in := inputs(t, "qwen3-vl-8b", "i5-10210u")
	in.Hardware.Memory = &profile.Memory{TotalBytes: 16 * units.GiB}
	in.Hardware.Cards = []profile.Card{
		{Vendor: "Intel", Name: "UHD Graphics", Unified: true, Backends: []string{"vulkan"}, VRAMBytes: size(8 * units.GiB)},
		{Vendor: "AMD", Name: "Radeon RX 7900 XTX", Backends: []string{"rocm", "vulkan"}, VRAMBytes: size(24 * units.GiB),
			VRAMUsedBytes: size(units.GiB)}}
	d, err := advise.Deploy("llama-server", in)
	if err != nil {
		t.Fatal(err)
	}
	if g := d.Settings.GPU; g == nil || g.Backend != "rocm" || !d.Settings.FullOff || g.Room() != 23*units.GiB {
		t.Errorf("%+v, every layer on the card: %t", g, d.Settings.FullOff)
	}
	if d, err := advise.Deploy("transformers", in); err == nil && d.Settings.GPU != nil {
		t.Errorf("transformers on %s", d.Settings.GPU.Name)
	}
	in.Hardware.Cards = in.Hardware.Cards[:1]
	if d, err := advise.Deploy("llama-server", in); err != nil || d.Settings.GPU != nil {
		t.Errorf("integrated graphics: %+v, %v", d.Settings.GPU, err)
	}
}

// TestCardsBeyondCUDA: the configuration and the engine's own files are reckoned for the same card, which Vulkan
// reaches.
func TestCardsBeyondCUDA(t *testing.T) {
	size := 24 * units.GiB
	in := inputs(t, "qwen3-vl-4b", "i5-10210u")
	in.Engine = advise.Serving(&in.Model)
	in.Hardware.Cards = []profile.Card{{Vendor: "AMD", Name: "AMD Navi 31", Driver: "amdgpu", VRAMBytes: &size,
		Backends: []string{"vulkan"}}}
	d, err := advise.Deploy(in.Engine, in)
	if err != nil {
		t.Fatal(err)
	}
	in.ReachCard()
	a, err := advise.Make(in)
	if err != nil {
		t.Fatal(err)
	}
	if a.Budget.Device == nil || a.Budget.Precision.Value != d.Memory.Quant || d.Settings.GPU == nil ||
		a.Hardware.GPU == nil || !strings.Contains(a.Hardware.GPU.Why, "through vulkan") {
		t.Errorf("%+v in %s, files for %+v in %s", a.Hardware.GPU, a.Budget.Precision.Value, d.Settings.GPU, d.Memory.Quant)
	}
}

// TestFullCardHoldsNothing: a card that others fill is not taken for an empty one.
func TestFullCardHoldsNothing(t *testing.T) {
	in := inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080")
	in.Hardware.GPUs[0].FreeBytes = new(units.Bytes(0))
	d, err := advise.Deploy("llama-server", in)
	if err == nil && d.Settings.FullOff {
		t.Errorf("every layer on a full card: %q", d.Headline)
	}
	in.AssumeIdle = true
	if d, err = advise.Deploy("llama-server", in); err != nil || !d.Settings.FullOff {
		t.Errorf("idle: %q, %v", d.Headline, err)
	}
}

// TestUnseenUseIsSaid: what others hold of a card that could not be asked is assumed, and said with a code.
func TestUnseenUseIsSaid(t *testing.T) {
	in := inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080")
	in.Hardware.GPUs[0].FreeUnknown = "the driver hangs"
	coded := func(list []evidence.Warning) bool {
		return slices.ContainsFunc(list, func(w evidence.Warning) bool { return w.Code == advise.UnseenUse })
	}
	for _, idle := range []bool{false, true} {
		in.AssumeIdle = idle
		d, err := advise.Deploy("llama-server", in)
		a, failed := advise.Make(in)
		if err != nil || failed != nil || coded(d.Memory.Warnings) == idle || coded(a.Warnings) == idle {
			t.Errorf("idle %v: %v, %v; warnings %v and %v", idle, err, failed, d.Memory.Warnings, a.Warnings)
			continue
		}
		if other := a.Budget.Device.Other; !idle && other.Value != profile.AssumedHeld+profile.ContextBytes {
			t.Errorf("others hold %v", other)
		}
	}
}
