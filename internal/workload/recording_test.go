package workload

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

// recordings may be a folder of others, such as tools/reference/shapes.py writes.
var recordings = flag.String("recordings", "testdata", "folder of the recordings that requests are held against")

// recording is what tools/reference wrote of one run.
type recording struct {
	*trace.Trace
	settings map[string]string // key=value in the trace's name
}

func readRecording(t *testing.T, path string) *recording {
	t.Helper()
	traces, err := trace.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{Trace: traces[0], settings: map[string]string{}}
	for _, setting := range strings.Fields(r.Name) {
		key, value, _ := strings.Cut(setting, "=")
		r.settings[key] = value
	}
	return r
}

func (r *recording) number(key string) int {
	n, err := strconv.Atoi(r.settings[key])
	if err != nil {
		panic(fmt.Sprintf("setting %s: %v", key, err))
	}
	return n
}

// withoutScratch drops what a matrix product or a convolution takes and gives back before anything else happens. oneDNN
// does so in 16 bits, in sizes that depend on the machine's vector units and say nothing of the model: of a convolution
// its result alone, the last it allocates, is kept.
func (r *recording) withoutScratch() *trace.Trace {
	kept := &trace.Trace{Tags: r.Tags, Slots: r.Slots}
	narrow := r.settings["dtype"] != "fp32"
	dropped := map[uint32]bool{}
	for i, e := range r.Events {
		op := ""
		if e.Op == trace.OpAlloc {
			op = r.Tags[e.Tag]
		}
		switch {
		case e.Op == trace.OpFree && dropped[e.Slot]:
			delete(dropped, e.Slot)
			continue
		case e.Op == trace.OpAlloc && i+1 < len(r.Events):
			next := r.Events[i+1]
			product := slices.Contains([]string{"mm", "addmm", "bmm"}, op) && next.Op == trace.OpFree && next.Slot == e.Slot
			within := narrow && op == "mkldnn_convolution" && next.Op == trace.OpAlloc && r.Tags[next.Tag] == op
			if product || within {
				dropped[e.Slot] = true
				continue
			}
		}
		kept.Events = append(kept.Events, e)
	}
	return kept
}

// model is the built-in model with as few layers as the recording kept.
func (r *recording) model(t *testing.T) profile.Model {
	t.Helper()
	if config, whole := r.settings["config"]; whole {
		m, err := profile.DecodeHuggingFace("config.json", []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		m.Preprocess.MinPixels, m.Preprocess.VideoMinPixels = 1, 1 // recordings give sides as resized
		return m
	}
	m, err := profiles.Model(r.settings["model"])
	if err != nil {
		t.Fatal(err)
	}
	m.Text.Layers = r.number("layers")
	m.Vision.Depth = r.number("depth")
	if m.Text.MoE != nil {
		m.Text.MoE.Experts = r.number("experts")
	}
	m.Preprocess.MinPixels, m.Preprocess.VideoMinPixels = 1, 1 // recordings give sides as resized
	m.Vision.DeepstackLayers = nil
	for _, l := range strings.Split(r.settings["deepstack"], ",") {
		n, _ := strconv.Atoi(l)
		m.Vision.DeepstackLayers = append(m.Vision.DeepstackLayers, n)
	}
	return m
}

func (r *recording) options() Options {
	attention := Flash
	if a := r.settings["attention"]; a != "sdpa" {
		attention = Attention(a)
	}
	width, height := r.number("width"), r.number("height")
	if r.number("images") == 0 {
		width, height = 0, 0
	}
	var pictures []profile.Picture
	for size := range strings.SplitSeq(r.settings["sizes"], ",") {
		if w, h, err := profile.ParseImage(size); err == nil && size != "" {
			pictures, width, height = append(pictures, profile.Picture{Width: w, Height: h}), 0, 0
		}
	}
	images := r.number("images")
	if len(pictures) > 0 {
		images = 0
	}
	return Options{
		Pictures: pictures,
		Width:    width, Height: height, Images: images, Frames: r.number("frames"),
		PromptTokens: r.number("text"),
		DecodeTokens: r.number("steps"), Batch: r.number("batch"), DType: profile.DType(r.settings["dtype"]),
		Attention: attention, Cache: Cache(r.settings["cache"]), Device: CPU, Threads: r.number("threads"),
		AMX: r.settings["amx"] == "1",
	}
}

// lived is one allocation: what it is, and the bytes live once it is made, the program's inputs not counted.
type lived struct {
	bytes, live int64
	name        string
}

// lives lists the allocations after the inputs, which a recording finds there.
func lives(t *trace.Trace) []lived {
	var list []lived
	var live int64
	sizes := make([]int64, t.Slots)
	begun := false
	for _, e := range t.Events {
		switch e.Op {
		case trace.OpMark:
			begun = begun || t.Tags[e.Tag] == "prepare"
		case trace.OpAlloc:
			sizes[e.Slot] = 0
			if begun {
				sizes[e.Slot] = e.Size
				live += e.Size
				list = append(list, lived{e.Size, live, t.Tags[e.Tag]})
			}
		case trace.OpFree:
			live -= sizes[e.Slot]
		}
	}
	return list
}

// The generated program makes the allocations of the recorded one: each of them, of the same size, in the same order,
// and with the same bytes live at each.
func TestRequestMatchesRecordings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(*recordings, "*.txt.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings in testdata, %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt.gz"), func(t *testing.T) {
			r := readRecording(t, file)
			generated, err := Request(r.model(t), r.options())
			if err != nil {
				t.Fatal(err)
			}
			checkWhole(t, generated)
			compare(t, lives(r.withoutScratch()), lives(generated))
		})
	}
}

func compare(t *testing.T, recorded, generated []lived) {
	t.Helper()
	if len(recorded) != len(generated) {
		t.Errorf("%d allocations, recorded %d", len(generated), len(recorded))
	}
	var peak int64
	for i := range min(len(recorded), len(generated)) {
		a, b := recorded[i], generated[i]
		if a.bytes != b.bytes || a.live != b.live {
			t.Fatalf("allocation %d: %d bytes of %d live (%s), recorded %d of %d (%s)", i, b.bytes, b.live, b.name, a.bytes,
				a.live, a.name)
		}
		peak = max(peak, a.live)
	}
	t.Logf("%d allocations, peak %d bytes", len(recorded), peak)
}
