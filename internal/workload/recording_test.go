package workload

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

// recording is what tools/reference wrote of one run.
type recording struct {
	header map[string]string
	events []recorded
}

type recorded struct {
	op    byte // m, a, f
	id    int
	bytes int64
	name  string // of the phase or the operator
}

func (r *recording) number(key string) int {
	n, err := strconv.Atoi(r.header[key])
	if err != nil {
		panic(fmt.Sprintf("header %s: %v", key, err))
	}
	return n
}

func readRecording(t *testing.T, path string) *recording {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &recording{header: map[string]string{}}
	for lines := bufio.NewScanner(unpacked); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		switch fields[0] {
		case "#":
			r.header[fields[1]] = fields[2]
		case "m":
			r.events = append(r.events, recorded{op: 'm', name: fields[1]})
		case "a":
			id, _ := strconv.Atoi(fields[1])
			bytes, _ := strconv.ParseInt(fields[2], 10, 64)
			r.events = append(r.events, recorded{op: 'a', id: id, bytes: bytes, name: fields[3]})
		case "f":
			id, _ := strconv.Atoi(fields[1])
			r.events = append(r.events, recorded{op: 'f', id: id})
		}
	}
	return r
}

// withoutScratch drops what a matrix product takes and gives back before anything else happens. oneDNN does so for 16-bit
// products, in sizes that depend on the machine's vector units and say nothing of the model.
func (r *recording) withoutScratch() []recorded {
	var kept []recorded
	for i := 0; i < len(r.events); i++ {
		e := r.events[i]
		product := slices.Contains([]string{"mm", "addmm", "bmm"}, e.name)
		if product && i+1 < len(r.events) && r.events[i+1].op == 'f' && r.events[i+1].id == e.id {
			i++
			continue
		}
		kept = append(kept, e)
	}
	return kept
}

// model is the built-in model with as few layers as the recording kept.
func (r *recording) model(t *testing.T) profile.Model {
	t.Helper()
	m, err := profiles.Model(r.header["model"])
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
	for _, l := range strings.Split(r.header["deepstack"], ",") {
		n, _ := strconv.Atoi(l)
		m.Vision.DeepstackLayers = append(m.Vision.DeepstackLayers, n)
	}
	return m
}

func (r *recording) options() Options {
	attention := Flash
	if a := r.header["attention"]; a != "sdpa" {
		attention = Attention(a)
	}
	return Options{
		Width: r.number("width"), Height: r.number("height"), Frames: r.number("frames"), PromptTokens: r.number("text"),
		DecodeTokens: r.number("steps"), Batch: r.number("batch"), DType: profile.DType(r.header["dtype"]),
		Attention: attention, Cache: Cache(r.header["cache"]), Device: CPU, Threads: r.number("threads"),
	}
}

// summary is what the comparison looks at.
type summary struct {
	sizes []int64 // of allocations of 4 KiB and more, in order
	names []string
	all   int
	peak  int64
}

const comparedFrom = 4 << 10

func (s *summary) add(bytes int64, name string) {
	s.all++
	if bytes >= comparedFrom {
		s.sizes = append(s.sizes, bytes)
		s.names = append(s.names, name)
	}
}

func summarizeRecorded(events []recorded) summary {
	var s summary
	var live int64
	sizes := map[int]int64{}
	for _, e := range events {
		switch e.op {
		case 'a':
			s.add(e.bytes, e.name)
			sizes[e.id] = e.bytes
			live += e.bytes
			s.peak = max(s.peak, live)
		case 'f':
			live -= sizes[e.id]
			delete(sizes, e.id)
		}
	}
	return s
}

// summarizeGenerated leaves out the inputs, which a recording finds allocated.
func summarizeGenerated(t *trace.Trace) summary {
	var s summary
	var live int64
	sizes := map[uint32]int64{}
	begun := false
	for _, e := range t.Events {
		switch e.Op {
		case trace.OpMark:
			begun = begun || t.Tags[e.Tag] == "prepare"
		case trace.OpAlloc:
			if begun {
				s.add(e.Size, t.Tags[e.Tag])
				sizes[e.Slot] = e.Size
				live += e.Size
				s.peak = max(s.peak, live)
			}
		case trace.OpFree:
			live -= sizes[e.Slot]
			delete(sizes, e.Slot)
		}
	}
	return s
}

func TestDebugCompare(t *testing.T) {
	files := strings.Fields(os.Getenv("COMPARE"))
	for _, f := range files {
		r := readRecording(t, f)
		tr, err := Request(r.model(t), r.options())
		if err != nil {
			t.Fatal(err)
		}
		a, b := summarizeRecorded(r.withoutScratch()), summarizeGenerated(tr)
		t.Logf("%s: count %d / %d, all %d / %d, peak %d / %d", filepath.Base(f), len(a.sizes), len(b.sizes), a.all, b.all, a.peak, b.peak)
		shown := 0
		i, j := 0, 0
		for i < len(a.sizes) && j < len(b.sizes) {
			if a.sizes[i] != b.sizes[j] {
				shown++
				if shown > 12 {
					break
				}
				t.Logf("  at %d/%d: recorded %d %s (after %s), generated %d %s", i, j, a.sizes[i], a.names[i], a.names[max(0, i-1)], b.sizes[j], b.names[j])
				// resync: look ahead
				di, dj := resync(a.sizes[i:], b.sizes[j:])
				i += di
				j += dj
				continue
			}
			i++
			j++
		}
	}
}

func resync(a, b []int64) (int, int) {
	for d := 1; d < 40; d++ {
		for x := 0; x <= d; x++ {
			y := d - x
			if x+3 < len(a) && y+3 < len(b) && slices.Equal(a[x:x+3], b[y:y+3]) {
				return x, y
			}
		}
	}
	return 1, 1
}
