package observation

import (
	"math"
	"testing"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

func mib(n float64) units.Bytes { return units.Bytes(n * float64(units.MiB)) }

// loads is a run of llama-server v0.5.0 on an H200, with files of the models' real sizes, in three settings: what its
// process held in MiB (anonymous, of files, shared) before the file was read, with all of it mapped, once its weights
// were on the card, at most, and while it ended; and the prompts that its log says it kept.
var loads = []struct {
	model   string
	options engine.Options
	samples [][3]float64
	kept    float64
	// what is said of the host: the total, and the pages that loading maps and drops
	off, pages float64
}{
	{"qwen3-vl-2b", engine.Options{Context: 8192}, [][3]float64{{168.8, 154.2, 8}, {168.8, 1900.6, 8}, {169.3, 472.1, 40},
		{1030.7, 494.2, 40}, {643, 179.1, 10}}, 227.44, 0.03, 1406.4},
	{"qwen3-vl-4b", engine.Options{Context: 16384, UBatch: 1024}, [][3]float64{{168.8, 154.2, 8}, {169, 4233.3, 8},
		{169, 3144.8, 8}, {197.1, 553.4, 94}, {1141.4, 573, 94}, {943.8, 179, 10}}, 292.41, 0.03, 3660.3},
	// a quarter of what is predicted is a context's worth of prompts, of which an eighth was kept
	{"qwen3-vl-2b", engine.Options{Context: 16384, HostLayers: 15, KVType: "q8_0"}, [][3]float64{{168.8, 154.3, 8},
		{168.8, 1900.7, 8}, {220.2, 1234.9, 10}, {1455.9, 1259.8, 48.1}, {1312.3, 1259.9, 10}}, 120.85, 0.12, 640.8},
}

// The file's pages while it loads are an item of their own, may be dropped, and are gone afterwards.
func TestLoadingToACard(t *testing.T) {
	for _, c := range loads {
		m, err := catalog.Model(c.model)
		if err != nil {
			t.Fatal(err)
		}
		c.options.Device, c.options.Quant, c.options.Sequences = "gpu", "q8_0", 1
		mem, err := engine.Estimate("llama-server", &m, c.options)
		if err != nil {
			t.Fatal(err)
		}
		o := &Observation{}
		for i, s := range c.samples {
			o.Add(Sample{At: float64(i), Use: Use{Anonymous: mib(s[0]), Mapped: mib(s[1]), Shared: mib(s[2]),
				Resident: mib(s[0] + s[1] + s[2])}})
		}
		o.Compare(mem, []engine.Item{{Name: engine.PromptCache, Where: "host", Bytes: mib(c.kept)}})
		most := map[string]float64{Total: c.off, Mapped: 0.03, engine.FilePages: 0.05}
		for _, i := range o.Items {
			off, held := most[i.Name]
			if held && i.Where == "host" && (i.Witness != "kernel" || math.Abs(i.Error()) > off || i.Seen < i.Low ||
				i.Seen > i.High && i.Name != engine.FilePages) {
				t.Errorf("%s %v: %+v is off by %+.1f %%", c.model, c.options.Context, i, 100*i.Error())
			}
			if i.Name == engine.FilePages && (i.Low != 0 || math.Abs(float64(i.Seen-mib(c.pages))) > 1<<16) {
				t.Errorf("%s: pages of loading %+v, want %v seen", c.model, i, mib(c.pages))
			}
			if i.Name == Libraries && (i.Seen < mib(130) || i.Seen > mib(200)) {
				t.Errorf("%s: libraries %v", c.model, i.Seen)
			}
			if isSum(i.Name) || i.Name == engine.FilePages {
				t.Logf("%s, %d tokens: %s predicted %v, seen %v, %+.1f %%", c.model, c.options.Context, i.Name, i.Predicted, i.Seen,
					100*i.Error())
			}
		}
	}
}

// What is not read from the file's pages maps none, and what never fell was not seen.
func TestLoadingWithoutPages(t *testing.T) {
	m, err := catalog.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		llama engine.LlamaOptions
		want  bool
	}{{engine.LlamaOptions{}, true}, {engine.LlamaOptions{LoadMode: "none"}, false},
		{engine.LlamaOptions{LoadMode: "dio"}, false}, {engine.LlamaOptions{Backend: "vulkan"}, true}} {
		mem, err := engine.Estimate("llama.cpp", &m, engine.Options{Device: "gpu", Quant: "q8_0", Context: 4096,
			Llama: c.llama})
		if err != nil {
			t.Fatal(err)
		}
		o := &Observation{}
		o.Add(Sample{Use: Use{Anonymous: mib(200), Mapped: mib(2000), Resident: mib(2200)}})
		o.Add(Sample{At: 1, Use: Use{Anonymous: mib(200), Mapped: mib(7), Resident: mib(207)}})
		o.Compare(mem, nil)
		found := false
		for _, i := range o.Items {
			found = found || i.Name == engine.FilePages
			if i.Name == engine.FilePages && i.Witness != "" {
				t.Errorf("%+v: an ending program's pages were taken for the file's: %+v", c.llama, i)
			}
		}
		if found != c.want {
			t.Errorf("%+v: pages of loading: %v, want %v", c.llama, found, c.want)
		}
	}
}
