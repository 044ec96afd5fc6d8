package engine

import (
	"errors"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
)

// Peaks above the weights in MiB, walked through the source of transformers 4.57 by hand for a prompt of the image and
// 30 tokens: of the whole call, and of the tower alone for the two towers.
func TestTransformersPeak(t *testing.T) {
	for _, c := range []struct {
		width, height int
		peak          map[string]float64
		tower         [2]float64 // of 2B and 8B
	}{
		{640, 480, map[string]float64{"2b": 65, "4b": 84, "8b": 97, "32b": 163}, [2]float64{59, 69}},
		{1024, 1024, map[string]float64{"2b": 209, "4b": 272, "8b": 312, "32b": 524}, [2]float64{200, 234}},
		{1920, 1080, map[string]float64{"2b": 412, "4b": 536, "8b": 614, "32b": 1030}, [2]float64{398, 466}},
		{3840, 2160, map[string]float64{"2b": 1635, "4b": 2123, "8b": 2434, "32b": 4082}, [2]float64{1590, 1865}},
	} {
		for size, want := range c.peak {
			m := model(t, "qwen3-vl-"+size)
			g, err := m.ImageGrid(c.width, c.height)
			if err != nil {
				t.Fatal(err)
			}
			p := newTransformersPeak(m, g, g.Tokens+30, 2)
			near(t, size+" whole", float64(max(p.tower(), p.prefill(3)))/(1<<20), want, 0.012)
			if i := map[string]int{"2b": 1, "8b": 2}[size]; i > 0 {
				near(t, size+" tower", float64(p.tower())/(1<<20), c.tower[i-1], 0.01)
			}
		}
	}
}

func near(t *testing.T, what string, got, want, relative float64) {
	t.Helper()
	if math.Abs(got/want-1) > relative {
		t.Errorf("%s: %.1f, want %.1f within %.1f %%", what, got, want, 100*relative)
	}
}

// The estimate against recordings of transformers 5.23 under torch's profiler, of one and more sequences, images and
// videos.
func TestTransformersRecorded(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "workload", "testdata", "*.txt.gz"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	compared := 0
	for _, path := range paths {
		traces, err := trace.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{}
		for _, f := range strings.Fields(traces[0].Name) {
			key, value, _ := strings.Cut(f, "=")
			settings[key] = value
		}
		number := func(key string) int { n, _ := strconv.Atoi(settings[key]); return n }
		if settings["attention"] != "sdpa" || number("experts") > 0 {
			continue // narrowed experts are no model's
		}
		compared++
		m := recordedModel(t, settings)
		image := Image{number("width"), number("height")}
		if settings["images"] == "0" {
			image = Image{}
		}
		sent := workload.Options{Width: image.Width, Height: image.Height, Images: number("images"), Frames: number("frames")}
		if sizes := settings["sizes"]; sizes != "" {
			sent = workload.Options{}
			for size := range strings.SplitSeq(sizes, ",") {
				width, height, err := profile.ParseImage(size)
				if err != nil {
					t.Fatal(err)
				}
				sent.Pictures = append(sent.Pictures, profile.Picture{Width: width, Height: height})
			}
		}
		g, seen, err := workload.Seen(&m, sent)
		if err != nil {
			t.Fatal(err)
		}
		prompt := seen + number("text")
		mem := estimate(t, "transformers", &m, Options{
			Quant: settings["dtype"], Context: prompt + number("steps"), PromptTokens: prompt, Image: &image, Device: "cpu",
			Images: number("images"), Frames: number("frames"), Sequences: number("batch"),
			Pictures: sent.Pictures,
		})
		inputs := g.PixelBytes() * int64(number("batch")) // of all images; lie there before the recording begins
		near(t, filepath.Base(path), float64(mem.KVCacheBytes+mem.ComputeBytes+mem.OutputBytes+mem.VisionBytes),
			float64(peak(traces[0])+inputs), 0.005)
	}
	if compared < 24 {
		t.Errorf("only %d of %d recordings compared", compared, len(paths))
	}
}

// recordedModel is the model of a recording: a config.json, or a built-in model with fewer layers.
func recordedModel(t *testing.T, settings map[string]string) profile.Model {
	if config, whole := settings["config"]; whole {
		m, err := profile.DecodeHuggingFace("config.json", []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		m.Preprocess.MinPixels, m.Preprocess.VideoMinPixels = 1, 1
		return m
	}
	number := func(key string) int { n, _ := strconv.Atoi(settings[key]); return n }
	m := *model(t, settings["model"])
	m.Text.Layers, m.Vision.Depth, m.Preprocess.MinPixels = number("layers"), number("depth"), 1
	m.Vision.DeepstackLayers = nil
	for l := range strings.SplitSeq(settings["deepstack"], ",") {
		n, _ := strconv.Atoi(l)
		m.Vision.DeepstackLayers = append(m.Vision.DeepstackLayers, n)
	}
	return m
}

// peak is the most bytes live at one time, what a matrix product takes and gives back at once not counted: in 16 bits
// that is scratch of the recording machine's vector units.
func peak(r *trace.Trace) int64 {
	var live, most int64
	sizes := make([]int64, r.Slots)
	for i, e := range r.Events {
		switch e.Op {
		case trace.OpAlloc:
			sizes[e.Slot] = e.Size
			live += e.Size
			scratch := i+1 < len(r.Events) && r.Events[i+1].Op == trace.OpFree && r.Events[i+1].Slot == e.Slot
			if !scratch {
				most = max(most, live)
			}
		case trace.OpFree:
			live -= sizes[e.Slot]
		}
	}
	return most
}

// Without fused attention for grouped heads a layer's scores dominate: two to three matrices of fp32 for every head.
func TestTransformersPeakOnPascal(t *testing.T) {
	for _, image := range []Image{{1920, 1080}, {3840, 2160}} {
		m := model(t, "qwen3-vl-4b")
		g, err := m.ImageGrid(image.Width, image.Height)
		if err != nil {
			t.Fatal(err)
		}
		s := g.Tokens + 30
		compute := func(g *profile.GPU) units.Bytes {
			return estimate(t, "transformers", m, Options{Context: s, Image: &image, GPU: g, Device: "gpu"}).ComputeBytes
		}
		matrix := units.Bytes(4 * m.Text.Heads * s * s)
		if more := compute(card(t, "gtx-1080")) - compute(&newer); more < 2*matrix*9/10 || more > 3*matrix {
			t.Errorf("%v: scores add %s, a matrix is %s", image, more, matrix)
		}
	}
}

func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		engine, capability string
		refused            bool
	}{
		{"vllm", "6.1", true}, {"vllm", "7.0", true}, {"vllm", "7.5", false}, {"sglang", "6.1", true},
		{"sglang", "8.9", false},
		{"llama.cpp", "6.1", false}, {"ollama", "6.1", false}, {"ollama", "3.5", true}, {"transformers", "6.1", false},
		{"llama-server", "6.1", false},
	} {
		g := &profile.GPU{Name: "card", ComputeCapability: c.capability, MemoryBytes: 8 * units.GiB}
		_, err := Estimate(c.engine, model(t, "qwen3-vl-2b"), Options{GPU: g, Device: "gpu", Context: 4096})
		var refusal *Refusal
		if errors.As(err, &refusal) != c.refused {
			t.Errorf("%s on %s: %v", c.engine, c.capability, err)
		}
		if c.refused && (refusal.Reason == "" || refusal.Alternative == "") {
			t.Errorf("%s on %s: nothing to go on: %+v", c.engine, c.capability, refusal)
		}
	}
}

// Items, sums and bounds agree for every engine and size.
func TestMemoryAddsUp(t *testing.T) {
	for _, engine := range Names((*Engine).Estimates) {
		for _, size := range []string{"2b", "4b", "8b", "32b", "30b-a3b", "235b-a22b"} {
			mem := estimate(t, engine, model(t, "qwen3-vl-"+size), Options{Device: "gpu", Context: 20000, GPU: &newer})
			var total, low, high units.Bytes
			for _, i := range mem.Items {
				if i.Low > i.Bytes || i.Bytes > i.High || i.Low < 0 || i.Why == "" || i.Source == "" {
					t.Errorf("%s %s: %+v", engine, size, i)
				}
				total, low, high = total+i.Bytes, low+i.Low, high+i.High
			}
			if s := mem.slack; s != nil {
				low, high = total-s.less, total+s.more
			}
			if total != mem.TotalBytes || low != mem.LowBytes || high != mem.HighBytes ||
				mem.HostBytes+mem.DeviceBytes != total {
				t.Errorf("%s %s: items %s, total %s", engine, size, total, mem.TotalBytes)
			}
			if parts := mem.WeightsBytes + mem.VisionWeightsBytes + mem.KVCacheBytes + mem.ComputeBytes + mem.OutputBytes +
				mem.VisionBytes + mem.OtherBytes; parts != total {
				t.Errorf("%s %s: parts %s, total %s", engine, size, parts, total)
			}
		}
	}
}

// On a CPU, weights in the checkpoint's own type stay mapped from its files; cast ones are copied, beside the files
// while these are loaded. (from_pretrained of transformers 5.24.0 on checkpoints in 16 bits.)
func TestTransformersMapsWhatItDoesNotCast(t *testing.T) {
	m := model(t, "qwen3-vl-2b")
	for _, c := range []struct {
		device, quant, backing string
		files                  float64 // of the weights
		own                    int
	}{{"cpu", "bfloat16", BackedFile, 0, 2}, {"cpu", "float32", "", 0.5, 3}, {"cpu", "float16", "", 1, 3},
		{"gpu", "bfloat16", "", 0, 0}} {
		mem, err := Estimate("transformers", m, Options{Device: c.device, Quant: c.quant, Context: 2000})
		if err != nil {
			t.Fatal(err)
		}
		weights := mem.WeightsBytes + mem.VisionWeightsBytes
		for _, i := range mem.Items {
			if i.Name == Weights && (i.Backing != c.backing || i.MappedBytes > 0 != (c.backing != "")) {
				t.Errorf("%s in %s: %+v", c.quant, c.device, i)
			}
		}
		if len(mem.Own) != c.own {
			t.Errorf("%s on the %s: own %+v", c.quant, c.device, mem.Own)
		}
		for _, i := range mem.Own {
			if i.Name == FilePages && float64(i.Bytes) != c.files*float64(weights) {
				t.Errorf("%s: files of %v for weights of %v", c.quant, i.Bytes, weights)
			}
		}
	}
}
