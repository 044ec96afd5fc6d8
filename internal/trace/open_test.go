package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

func file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t *testing.T, data string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

const (
	ownText  = "vlmem-trace 1\na 1 100\na 2 50\nf 1\nend 3\n"
	flatText = "op,addr,size,stream,t_us\ninit_segment,0,2097152,0,small\ninit_live,0,100,0,512\nalloc,512,50,7,1000\n" +
		"free_requested,0,100,0,1003\nfree_completed,0,100,0,1004\n"
	kineto = `{"schemaVersion":1,"other":{"a":[1,2,{"b":3}]},"traceEvents":[
{"ph":"X","name":"aten::empty","ts":1,"args":{"Bytes":"none"}},
{"ph":"i","name":"[memory]","ts":20.5,"args":{"Device Type":1,"Device Id":0,"Addr":4096,"Bytes":50}},
{"ph":"i","name":"[memory]","ts":30,"args":{"Device Type":1,"Device Id":0,"Addr":4096,"Bytes":-50}},
{"ph":"i","name":"[memory]","ts":10,"args":{"Device Type":1,"Device Id":0,"Addr":8192,"Bytes":-100}},
{"ph":"i","name":"[memory]","ts":5,"args":{"Device Type":0,"Device Id":-1,"Addr":77,"Bytes":8}}]}`
	packing = "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\n"
)

// Each format, plain and compressed, is told by its contents and not by the file's name.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name, text string
		traces     int
		events     []Event
	}{
		{"own", ownText, 1, []Event{{Op: OpAlloc, Size: 100}, {Op: OpAlloc, Slot: 1, Size: 50}, {Op: OpFree}}},
		{"flat", flatText, 1, []Event{{Op: OpAlloc, Size: 100}, {Op: OpAlloc, Slot: 1, Size: 50, Stream: 1},
			{Op: OpFree, TimeNs: 4000}}},
		{"kineto", kineto, 2, []Event{{Op: OpAlloc, Size: 100}, {Op: OpFree}, {Op: OpAlloc, Size: 50, TimeNs: 10000},
			{Op: OpFree, TimeNs: 20000}}},
		{"packing", packing, 1, []Event{{Op: OpAlloc, Size: 4}, {Op: OpAlloc, Slot: 1, Size: 4}, {Op: OpFree, TimeNs: 3},
			{Op: OpAlloc, Size: 4, TimeNs: 3}, {Op: OpFree, Slot: 0, TimeNs: 9}, {Op: OpFree, Slot: 1, TimeNs: 9}}},
	} {
		for _, compressed := range []bool{false, true} {
			data, name := []byte(c.text), c.name
			if compressed {
				data, name = zipped(t, c.text), c.name+".csv.gz"
			}
			traces, err := Open(file(t, name, data))
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			got := traces[0]
			if len(traces) != c.traces || !strings.HasPrefix(got.Name, c.name) {
				t.Errorf("%s: %d traces, the first %q", c.name, len(traces), got.Name)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if len(got.Events) != len(c.events) {
				t.Fatalf("%s: got %+v", c.name, got.Events)
			}
			for i, e := range c.events {
				if g := got.Events[i]; g != e && !(c.name == "packing" && g.Op == e.Op) {
					t.Errorf("%s: event %d is %+v, want %+v", c.name, i, g, e)
				}
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	random := make([]byte, 4000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	folder := t.TempDir()
	for _, c := range []struct{ path, want string }{
		{filepath.Join(folder, "none"), "no such file or directory"},
		{folder, "it is a folder, want a file"},
		{file(t, "empty", nil), "the file is empty"},
		{file(t, "empty.gz", zipped(t, "")), "the file is empty"},
		{file(t, "random", random), "byte 0: neither a vlmem trace"},
		{file(t, "random.pickle", append([]byte{0x80, 4}, random...)), "byte 3: "},
		{file(t, "short.gz", zipped(t, ownText)[:30]), "cut short"},
		{file(t, "short.vlmt.gz", zipped(t, ownText+strings.Repeat("#", 100000))[:50]), "cut short"},
		{file(t, "short.csv", []byte(flatText[:60])), ":3: 1 columns: want the 5"},
		{file(t, "double.csv", []byte(flatText+"free_completed,0,100,0,9\n")), ":7: free of address 0, which is not live"},
		{file(t, "late.csv", []byte(flatText+"init_live,0,100,0,512\n")), ":7: init_live after the first event"},
		{file(t, "size.csv", []byte(flatText+"alloc,5,-1,0,9\n")), ":7: -1 bytes at address 5"},
		{file(t, "short.json", []byte(kineto[:300])), "cut short"},
		{file(t, "none.json", []byte(`{"traceEvents":[]}`)), "without [memory] events"},
		{file(t, "bytes.json", []byte(`[{"name":"[memory]","args":{"Addr":1}}]`)), "without Bytes and Addr"},
		{file(t, "lower.csv", []byte("id,lower,upper,size\na,5,5,1\n")), ":2: lifetime [5, 5): want 0 <= lower < upper"},
		{file(t, "twice.csv", []byte("id,lower,upper,size\na,1,5,1\na,2,6,1\n")), `:3: id "a" was used in line 2`},
		{file(t, "column.csv", []byte("id,lower,upper\na,1,5\n")), `:1: no column "size"`},
	} {
		traces, err := Open(c.path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, %v; want an error with %q", filepath.Base(c.path), traces, err, c.want)
		}
	}
}

// Whatever opens is a program that can be replayed, and written.
func FuzzTraces(f *testing.F) {
	for _, text := range []string{ownText, flatText, kineto, packing} {
		f.Add([]byte(text))
	}
	var pickle bytes.Buffer
	if err := snapshot.Write(&pickle, &snapshot.Snapshot{Traces: [][]snapshot.Entry{{
		{Action: snapshot.Alloc, Addr: 512, Size: 8, Stack: snapshot.NoStack},
		{Action: snapshot.FreeCompleted, Addr: 1024, Size: 9, TimeUs: 7, Stack: snapshot.NoStack},
	}}}); err != nil {
		f.Fatal(err)
	}
	f.Add(pickle.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		file := &File{Path: "x", in: bufio.NewReader(bytes.NewReader(data)), Format: formatOf(data[:min(len(data), 512)])}
		if file.Format == 0 {
			return
		}
		traces, err := file.Traces()
		if err != nil {
			return
		}
		for _, tr := range traces {
			if err := tr.Validate(); err != nil {
				t.Fatal(err)
			}
			if err := tr.Write(io.Discard); err != nil {
				t.Fatal(err)
			}
			tr.Info(3)
		}
	})
}

// A problem written and read again has the same lifetimes, so the same packing.
func TestMiniMallocRoundTrip(t *testing.T) {
	want, err := ReadMiniMalloc(strings.NewReader(packing), "packing")
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := want.WriteMiniMalloc(&text); err != nil {
		t.Fatal(err)
	}
	got, err := ReadMiniMalloc(&text, "again")
	if err != nil {
		t.Fatal(err)
	}
	if g, w := got.Info(0), want.Info(0); g.LowerBound != w.LowerBound || g.Allocs != w.Allocs || g.LowerBound != 8 {
		t.Errorf("got %+v, want %+v", g, w)
	}
}

func TestInfo(t *testing.T) {
	b := NewBuilder("run")
	site := b.Tag("model.py:1 f")
	x := b.Alloc(1000, KVCache, 0, site)
	b.At(2e9)
	y := b.Alloc(3000, General, 4, 0)
	b.Free(x, 0)
	b.At(5e9)
	b.Alloc(500, KVCache, 0, site)
	b.Free(y, 4)
	got := b.Trace().Info(3)
	if got.LowerBound != 4000 || got.PeakEvent != 1 || got.PeakBlocks != 2 || got.LiveBytes != 500 ||
		got.LiveBlocks != 1 || got.Bytes != 4500 || got.Seconds != 5 {
		t.Errorf("got %+v", got)
	}
	if want := []SizeClass{{256, 1, 500}, {512, 1, 1000}, {2048, 1, 3000}}; len(got.Sizes) != 3 ||
		got.Sizes[0] != want[0] || got.Sizes[1] != want[1] || got.Sizes[2] != want[2] {
		t.Errorf("sizes %+v, want %+v", got.Sizes, want)
	}
	if want := (Site{"model.py:1 f", 2, 1500, 1000}); len(got.Sites) != 1 || got.Sites[0] != want {
		t.Errorf("sites %+v, want %+v", got.Sites, want)
	}
	if want := (LifetimeClass{2, 2, 4000}); len(got.Lifetimes) != 1 || got.Lifetimes[0] != want {
		t.Errorf("lifetimes %+v, want %+v", got.Lifetimes, want)
	}
	if want := (StreamInfo{4, 1, 3000}); len(got.Streams) != 2 || got.Streams[1] != want {
		t.Errorf("streams %+v, want %+v", got.Streams, want)
	}
}
