package observation

import (
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// estimate is 100 MiB of mapped weights, 50 MiB of cache and an assumed workspace of 10.
func estimate() *engine.Memory {
	exact := func(name string, n units.Bytes) engine.Item {
		return engine.Item{Name: name, Where: "host", Bytes: n, Low: n, High: n, Source: engine.Derived}
	}
	m := &engine.Memory{Engine: "llama.cpp", Device: "cpu"}
	weights := exact(engine.Weights, 90*units.MiB)
	weights.Backing, weights.MappedBytes = engine.BackedFile, 100*units.MiB
	m.Items = []engine.Item{weights, exact(engine.KVCache, 50*units.MiB),
		{Name: "workspace", Where: "host", Bytes: 10 * units.MiB, Low: 5 * units.MiB, High: 20 * units.MiB,
			Source: engine.Assumed}}
	return m
}

// ran is a run whose anonymous and mapped memory peaked so.
func ran(day int, anonymous, mapped units.Bytes, said ...engine.Item) *Observation {
	o := &Observation{Started: time.Date(2026, 3, day, 0, 0, 0, 0, time.UTC), Machine: Machine{Name: "laptop"}}
	o.Add(Sample{Use: Use{Anonymous: anonymous, Mapped: mapped, Resident: anonymous + mapped}})
	o.Compare(estimate(), said)
	return o
}

func TestRunsTeach(t *testing.T) {
	workspace := engine.Item{Name: "workspace", Where: "host", Bytes: 12 * units.MiB}
	runs := []*Observation{ran(1, 80*units.MiB, 104*units.MiB, workspace), ran(2, 84*units.MiB, 106*units.MiB, workspace),
		ran(3, 82*units.MiB, 105*units.MiB, workspace)}
	other := ran(4, 900*units.MiB, 900*units.MiB)
	other.Engine = "vllm"
	lessons := Learn(append(runs, other), "llama.cpp", "cpu")
	want := map[string][3]units.Bytes{
		"workspace": {12 * units.MiB, 12 * units.MiB, 12 * units.MiB},
		Process:     {18 * units.MiB, 20 * units.MiB, 22 * units.MiB}, // 80, 82, 84 less 50 and 12
		Libraries:   {4 * units.MiB, 5 * units.MiB, 6 * units.MiB},
	}
	if len(lessons) != len(want) {
		t.Errorf("%d lessons, want %d: %+v", len(lessons), len(want), lessons)
	}
	for _, l := range lessons {
		if got := [3]units.Bytes{l.Low, l.Mid, l.High}; got != want[l.Name] {
			t.Errorf("%s: %v, want %v", l.Name, got, want[l.Name])
		}
		if l.Why != "3 runs on laptop, 2026-03-01 to 2026-03-03" {
			t.Errorf("%s: %s", l.Name, l.Why)
		}
	}
	if p := LearnProcess(append(runs, other), "llama.cpp"); p == nil || p.Low != 22*units.MiB || p.Mid != 25*units.MiB ||
		p.High != 28*units.MiB || !strings.Contains(p.Why, "of llama.cpp") {
		t.Errorf("the process: %+v", p)
	}
	if p := LearnProcess(runs, "vllm"); p != nil {
		t.Errorf("another engine's process: %+v", p)
	}
	mem := estimate()
	Apply(lessons, mem)
	after := &Observation{}
	after.Add(Sample{Use: Use{Anonymous: 82 * units.MiB, Mapped: 105 * units.MiB, Resident: 187 * units.MiB}})
	after.Compare(mem, nil)
	for _, i := range after.Items {
		if isSum(i.Name) && i.Error() != 0 {
			t.Errorf("%s: predicted %v, seen %v", i.Name, i.Predicted, i.Seen)
		}
		if i.Name == Process && i.Source != Observed {
			t.Errorf("the process is [%s]", i.Source)
		}
	}
	if mem.OtherBytes != 37*units.MiB || mem.TotalBytes != 177*units.MiB {
		t.Errorf("other %v, total %v", mem.OtherBytes, mem.TotalBytes)
	}
	if strings.Contains(mem.Items[1].Source, Observed) {
		t.Error("what was derived was overwritten")
	}
}

func TestNothingSeenTeachesNothing(t *testing.T) {
	if l := Learn([]*Observation{ran(1, 0, 0)}, "llama.cpp", "cpu"); len(l) != 0 {
		t.Errorf("%+v", l)
	}
}

// Pages that only loading maps count among mapped ones, and in the total where loading holds more than running.
func TestLoadingIsNotRunning(t *testing.T) {
	for pages, total := range map[units.Bytes]units.Bytes{20 * units.MiB: 160, 400 * units.MiB: 500} {
		mem := estimate() // runs with 100 of weights and 60 of the rest
		mem.Own = []engine.Item{{Name: Process, Where: "host"}, {Name: Libraries, Where: "host"},
			{Name: engine.FilePages, Where: "host", Bytes: pages, High: pages, Backing: engine.BackedFile}}
		o := &Observation{}
		o.Compare(mem, nil)
		for _, i := range o.Items {
			switch want := map[string]units.Bytes{Mapped: 100*units.MiB + pages, Total: total * units.MiB}[i.Name]; {
			case want > 0 && i.Predicted != want:
				t.Errorf("%v of pages: %s %v, want %v", pages, i.Name, i.Predicted, want)
			}
		}
	}
}

// How fast runs were goes to the estimate with where their weights lay; few tokens say nothing.
func TestRunsTeachRates(t *testing.T) {
	llama, err := engine.Lookup("engine", "llama.cpp", (*engine.Engine).Estimates)
	if err != nil {
		t.Fatal(err)
	}
	log := `slot print_timing: id 0 | task 0 | prompt eval time =  50.00 ms / 600 tokens
slot print_timing: id 0 | task 0 |        eval time = 200.00 ms /  32 tokens
load_tensors: CPU model buffer size = 90.00 MiB
`
	o := ran(1, 80*units.MiB, 104*units.MiB)
	o.Items = nil
	o.Judge(llama, estimate(), []byte(log))
	if len(o.Rates) != 2 || o.Rates[0] != (Rate{"prompt", 12000, 600, 1}) || o.Rates[1] != (Rate{"decode", 160, 32, 1}) {
		t.Errorf("rates %+v", o.Rates)
	}
	short := ran(2, 80*units.MiB, 104*units.MiB)
	short.Rates = []Rate{{"prompt", 10, 20, 1}, {"decode", 10, 4, 1}}
	mem := estimate()
	Teach([]*Observation{o, short}, mem)
	want := engine.Ran{Machine: "laptop", HostBytes: 90 << 20, Prompt: 600, Reply: 32, PromptPerS: 12000, ReplyPerS: 160}
	if len(mem.Ran) != 1 || mem.Ran[0] != want {
		t.Errorf("taught %+v, want %+v", mem.Ran, want)
	}
}

// What the driver says of the program's processes stands beside what was predicted on the card; the rest of it is the
// context, which was assumed, and is learned.
func TestRunsTeachTheContext(t *testing.T) {
	on := func(name string, n units.Bytes, source string) engine.Item {
		return engine.Item{Name: name, Where: "device", Bytes: n, Low: n / 2, High: 2 * n, Source: source}
	}
	card := &engine.Memory{Engine: "llama.cpp", Device: "gpu", Items: []engine.Item{
		on(engine.Weights, 100, engine.Derived), on(engine.KVCache, 40, engine.Derived),
		on("CUDA context", 60, engine.Assumed)}}
	for held, want := range map[units.Bytes]units.Bytes{0: 0, 250: 110, 120: 0} {
		o := &Observation{}
		o.Add(Sample{Use: Use{Anonymous: 1, Resident: 1, Device: held}})
		o.Compare(card, nil)
		last := o.Items[len(o.Items)-1]
		if last.Name != Total || last.Where != "device" || last.Predicted != 200 || last.Seen != held ||
			(last.Witness == "") != (held == 0) {
			t.Errorf("%d held: %+v", held, last)
		}
		lessons := Learn([]*Observation{o}, "llama.cpp", "gpu")
		learned := units.Bytes(0)
		for _, l := range lessons {
			if l.Name == "CUDA context" {
				learned = l.Mid
			}
		}
		if learned != want {
			t.Errorf("%d held: a context of %d is learned, want %d", held, learned, want)
		}
	}
}
