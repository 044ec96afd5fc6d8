package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func sharedData(t testing.TB, elements ...string) string {
	t.Helper()
	root := os.Getenv("VLMEM_SHARED_DATA")
	if root == "" {
		root = "../../../../shared/data"
	}
	path := filepath.Join(append([]string{root}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no recordings here (VLMEM_SHARED_DATA): %v", err)
	}
	return path
}

// text is a pointer to a copy of s.
func text(s string) *string { return &s }

// example uses every field and every width of number.
func example() *Snapshot {
	return &Snapshot{
		Segments: []Segment{
			{Address: 1 << 46, TotalSize: 2 << 20, AllocatedSize: 512, ActiveSize: 1024, RequestedSize: 300,
				Stream: 94_000_000_000_000, Small: true, Stack: 0,
				Blocks: []Block{
					{Address: 1 << 46, Size: 512, Requested: 300, State: Allocated, Stack: 1},
					{Address: 1<<46 + 512, Size: 512, Requested: 512, State: PendingFree, Stack: NoStack},
					{Address: 1<<46 + 1024, Size: 2<<20 - 1024, Stack: NoStack},
				}},
			{Device: 1, Address: 1 << 40, TotalSize: 20 << 20, Pool: PoolID{0, 70_000}, Expandable: true, Stack: NoStack,
				Blocks: []Block{{Address: 1 << 40, Size: 20 << 20, Requested: 7, Stack: NoStack}}},
		},
		Traces: [][]Entry{
			{
				{Action: SegmentAlloc, Addr: 1 << 46, Size: 2 << 20, Stream: 94_000_000_000_000, TimeUs: 1_700_000_000_000_000,
					Stack: 0},
				{Action: Alloc, Addr: 1 << 46, Size: 300, TimeUs: 1_700_000_000_000_001, Stack: 1, Note: &Note{
					CompileContext: text("N/A"), UserMetadata: text("")}},
				{Action: OutOfMemory, Addr: 12345, Size: 1 << 33, Stack: NoStack},
			},
			{{Action: FreeCompleted, Addr: 255, Size: 65_535, Stream: -1, Stack: NoStack,
				Note: &Note{Pool: &PoolID{1, 2}}}},
		},
		Settings: &Settings{Conf: "max_split_size_mb:128", MaxSplitSize: 128 << 20, GCThreshold: 0.8, Expandable: true,
			Roundup: [16]int64{1, 2, 4}, Other: []Setting{{"pinned_num_register_threads", 1, false},
				{"release_lock_on_cudamalloc", 0, true}}},
		Annotations: []Annotation{{"START", "step", 0, 5}, {"END", "step", 0, 9}},
		Frames:      []Frame{{"forward", "/home/me/model.py", 54}, {"empty", strings.Repeat("x", 300), 1}},
		Stacks:      [][]int32{{0}, {0, 1}}, // as they come in the file
	}
}

func TestWriteThenRead(t *testing.T) {
	want := example()
	var first, again bytes.Buffer
	if err := Write(&first, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := Write(&again, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Error("written again, the file differs")
	}
}

// A recorded file, written and read, is the same; its stacks may be numbered otherwise, so it is written twice.
func TestRecordedFilesSurvive(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sharedData(t, "pytorch_snapshots"), "*.pickle"))
	if err != nil || len(files) == 0 {
		t.Skip("no pickles here")
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		var first, again bytes.Buffer
		if err := Write(&first, s); err != nil {
			t.Fatal(err)
		}
		back, err := Read(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Errorf("%s, written: %v", path, err)
			continue
		}
		if err := Write(&again, back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), again.Bytes()) || !reflect.DeepEqual(resolved(s), resolved(back)) {
			t.Errorf("%s differs after writing and reading", path)
		}
	}
}

// resolved replaces the number of each entry's stack by its frames.
func resolved(s *Snapshot) [][][]Frame {
	var out [][][]Frame
	for _, trace := range s.Traces {
		var list [][]Frame
		for i := range trace {
			var frames []Frame
			if trace[i].Stack != NoStack {
				for _, f := range s.Stacks[trace[i].Stack] {
					frames = append(frames, s.Frames[f])
				}
			}
			list = append(list, frames)
		}
		out = append(out, list)
	}
	return out
}

// Protocol 2, as PyTorch's own pickler writes it: no frames, numbered memos, single items.
func TestReadProtocol2(t *testing.T) {
	const pickle = "\x80\x02}q\x00(X\x08\x00\x00\x00segmentsq\x01]q\x02X\r\x00\x00\x00" +
		"device_tracesq\x03]q\x04]q\x05}q\x06(" +
		"X\x06\x00\x00\x00actionq\x07X\x05\x00\x00\x00allocq\x08X\x04\x00\x00\x00addrq\t\x8a\x06\x00\x00\x00\x00\x00@" +
		"X\x04\x00\x00\x00sizeq\nK\x08X\x06\x00\x00\x00streamq\x0bK\x00X\x07\x00\x00\x00time_usq\x0cK\x05" +
		"X\x06\x00\x00\x00framesq\r]q\x0eX\x07\x00\x00\x00pool_idq\x0fK\x00K\x00\x86q\x10uaa" +
		"X\x14\x00\x00\x00external_annotationsq\x11Nu."
	got, err := Read(strings.NewReader(pickle))
	want := &Snapshot{Segments: []Segment{},
		Traces: [][]Entry{{{Action: Alloc, Addr: 1 << 46, Size: 8, TimeUs: 5, Note: &Note{Pool: &PoolID{}}, Stack: NoStack}}}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// A frame of code without lines, as torch 2.7 under Python 3.13 records it: CPython says -1, the file 2^64-1.
func TestReadFrameWithoutLine(t *testing.T) {
	const number = "\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00"
	const frame = "]}(\x8c\x04name\x8c\x01f\x8c\x08filename\x8c\x04a.py\x8c\x04line" + number + "ua"
	const pickle = "\x80\x04}(\x8c\x08segments]\x8c\x0ddevice_traces]]}(\x8c\x06action\x8c\x05alloc\x8c\x04addrK\x00" +
		"\x8c\x04sizeK\x08\x8c\x06frames" + frame + "uaau."
	s, err := Read(strings.NewReader(pickle))
	if err != nil || len(s.Frames) != 1 || s.Frames[0].Line != -1 || s.Site(0) != "a.py f" {
		t.Fatalf("got %+v, %v", s, err)
	}
	var out bytes.Buffer
	if err := Write(&out, s); err != nil || !strings.Contains(out.String(), number) {
		t.Errorf("written as %q, %v, want %q in it", out.String(), err, number)
	}
}

func TestReadRefuses(t *testing.T) {
	var good bytes.Buffer
	if err := Write(&good, example()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, pickle, want string }{
		{"empty", "", "byte 0: the pickle ends in the middle"},
		{"no pickle", "hello", "byte 1: not a pickle: a snapshot begins with byte 0x80"},
		{"protocol 1", "\x80\x01.", "byte 2: pickle protocol 1: want 2 to 5"},
		{"a class", "\x80\x04\x8c\x02os\x8c\x06system\x93.", "byte 15: pickle opcode 0x93 is not one that snapshots use"},
		{"a call", "\x80\x02cos\nsystem\nR.", "byte 3: pickle opcode 0x63 is not one that snapshots use"},
		{"a reduction", "\x80\x02)R.", "byte 4: pickle opcode 0x52"},
		{"a list of numbers", "\x80\x04]K\x01a.", "byte 7: a pickle, but not of a snapshot"},
		{"nothing", "\x80\x04.", "byte 3: the stack is empty"},
		{"other dictionary", "\x80\x04}(\x8c\x01aK\x01u.",
			`memory_snapshot() returns: "segments" is missing`},
		{"no mark", "\x80\x04}u.", "byte 4: no mark on the stack"},
		{"items for nothing", "\x80\x04(K\x01u.", "byte 6: items for a dictionary that is not there"},
		{"a number as key", "\x80\x04}(K\x01K\x02u.", "byte 9: a dictionary's key is a number, want text"},
		{"odd items", "\x80\x04}(K\x01u.", "byte 7: a dictionary's last key has no value"},
		{"memo", "\x80\x04h\x05.", "byte 4: memo 5 was never set"},
		{"far memo", "\x80\x04Nr\xff\xff\xff\x7f.", "byte 8: the pickle unfolds to more than"},
		{"huge string", "\x80\x04X\xff\xff\xff\xff", "byte 7: a string of 4294967295 bytes"},
		{"huge number", "\x80\x04\x8a\xff" + strings.Repeat("\x01", 255) + ".",
			"byte 259: a number of 255 bytes does not fit 64 bits"},
		{"negative size", "\x80\x04}(\x8c\x06action\x8c\x05alloc\x8c\x04sizeJ\xff\xff\xff\xff\x8c\x04addrK\x01u.",
			`trace entry: field "size" is -1`},
		{"text as size", "\x80\x04}(\x8c\x06action\x8c\x05alloc\x8c\x04size\x8c\x01xu.",
			`trace entry: field "size" is text, want a number`},
		{"state", "\x80\x04}(\x8c\x07addressK\x05\x8c\x06blocks]}(\x8c\x05state\x8c\x01x\x8c\x04sizeK\x01uau.",
			"segment: block at 0: state is none of inactive"},
	} {
		_, err := Read(strings.NewReader(c.pickle))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", c.name, err, c.want)
		}
	}
	for n := range good.Len() - 1 {
		if _, err := Read(bytes.NewReader(good.Bytes()[:n])); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Fatalf("the first %d bytes: got %v, want it to be called cut short", n, err)
		}
	}
}

// repeat reads a head, then a body again and again.
type repeat struct {
	head, body string
	times, at  int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.head != "" {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n := 0
	for n+len(r.body) <= len(p) && r.at < r.times {
		n += copy(p[n:], r.body)
		r.at++
	}
	if n == 0 {
		return copy(p, "."), nil
	}
	return n, nil
}

// A gigabyte of each thing that makes a decoder grow ends in an error while it holds little.
func TestBudget(t *testing.T) {
	for _, c := range []repeat{
		{head: "\x80\x04", body: "N"},                                              // the stack
		{head: "\x80\x04", body: "("},                                              // marks
		{head: "\x80\x04N", body: "\x94"},                                          // the memo
		{head: "\x80\x04", body: "}"},                                              // containers
		{head: "\x80\x04]", body: "Na"},                                            // one long list
		{head: "\x80\x04}", body: "\x8c\x01aNs"},                                   // one large dictionary
		{head: "\x80\x04N", body: "\x85"},                                          // depth
		{head: "\x80\x04", body: "X\x00\x10\x00\x00" + strings.Repeat("y", 1<<12)}, // text, the same again
	} {
		c.times = 1 << 30 / len(c.body)
		_, err := ReadWithin(&c, 0, 16<<20)
		if err == nil || !strings.Contains(err.Error(), "needs more memory") {
			t.Errorf("%.20q repeated: got %v, want it refused for its memory", c.body, err)
		}
	}
}

func TestRecordings(t *testing.T) {
	const segment = 2 << 20
	s := &Snapshot{
		Segments: []Segment{{Address: segment, TotalSize: segment, Small: true, Stack: NoStack, Blocks: []Block{
			{Address: segment, Size: 1024, Requested: 600, State: Allocated},
			{Address: segment + 1024, Size: segment - 1024, Requested: 5},
		}}},
		Traces: [][]Entry{{
			{Action: FreeRequested, Addr: 0, Size: 100},
			{Action: FreeCompleted, Addr: 0, Size: 100, Stream: 9},
			{Action: SegmentFree, Addr: 0, Size: segment},
			{Action: SegmentAlloc, Addr: segment, Size: segment},
			{Action: Alloc, Addr: segment, Size: 600},
			{Action: Alloc, Addr: segment + 1024, Size: 5},
			{Action: FreeCompleted, Addr: segment + 1024, Size: 5},
		}},
	}
	list := s.Recordings()
	if len(list) != 1 {
		t.Fatalf("%d recordings, want 1", len(list))
	}
	r := list[0]
	if want := []Live{{Address: 0, Requested: 100, Size: 100, Stream: 9, Stack: NoStack}}; !reflect.DeepEqual(r.Live,
		want) {
		t.Errorf("live at the start: %+v, want %+v", r.Live, want)
	}
	if want := []Segment{{Address: 0, TotalSize: segment, Small: true, Stack: NoStack}}; !reflect.DeepEqual(r.Segments,
		want) {
		t.Errorf("segments at the start: %+v, want %+v", r.Segments, want)
	}
	end := r.end()
	if len(end) != 1 || end[0].Address != segment || len(end[0].Blocks) != 2 || end[0].Blocks[0].State != Allocated ||
		end[0].AllocatedSize != 600 {
		t.Errorf("segments at the end: %+v", end)
	}
}

// Pages of expandable segments come and go at either end and in the middle of a run.
func TestRecordingsOfPages(t *testing.T) {
	const page = 20 << 20
	run := func(from, to int64) Segment {
		return Segment{Address: from * page, TotalSize: (to - from) * page, Expandable: true, Stack: NoStack}
	}
	s := &Snapshot{
		Segments: []Segment{run(0, 3)},
		Traces: [][]Entry{{
			{Action: SegmentUnmap, Addr: 1 * page, Size: page},
			{Action: SegmentUnmap, Addr: 4 * page, Size: page},
			{Action: SegmentMap, Addr: 1 * page, Size: 2 * page},
		}},
	}
	if got, want := s.Recordings()[0].Segments, []Segment{run(0, 2), run(4, 5)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSite(t *testing.T) {
	for _, c := range []struct {
		frames []Frame
		want   string
	}{
		{nil, ""},
		{[]Frame{{"torch::unwind::unwind()", "??", 0}}, ""},
		{[]Frame{{"torch::unwind::unwind()", "??", 0}, {"at::native::mul(at::Tensor const&)", "", 0}}, "at::native::mul"},
		{[]Frame{{"torch::cuda::(anonymous namespace)::gather_with_cpp()", "memory_snapshot.cpp", 0},
			{"at::(anonymous namespace)::wrapper_CUDA_mm", "RegisterCUDA.cpp", 0},
			{"torch::autograd::generated::MmBackward0::apply(std::vector<at::Tensor>&&)", "??", 0},
			{"torch::autograd::Engine::thread_main(std::shared_ptr<torch::autograd::GraphTask> const&)", "??", 0}},
			"MmBackward0"},
		{[]Frame{{"at::empty", "a.cpp", 0}, {"linear", "/x/site-packages/torch/nn/functional.py", 12}},
			"nn/functional.py:12 linear"},
		{[]Frame{{"linear", "/x/site-packages/torch/nn/functional.py", 12}, {"forward", "/home/me/net/model.py", 54},
			{"main", "run.py", 1}}, "nn/functional.py:12 linear < net/model.py:54 forward"},
		{[]Frame{{"forward", `D:\Dev\.venv\Lib\site-packages\torch\nn\module.py`, 9}, {"forward", `D:\Dev\model.py`, 5}},
			"nn/module.py:9 forward < Dev/model.py:5 forward"},
	} {
		s := &Snapshot{Frames: c.frames}
		var stack []int32
		for i := range c.frames {
			stack = append(stack, int32(i))
		}
		s.Stacks = [][]int32{stack}
		r := Recording{Source: s}
		if got := r.Site(0); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.frames, got, c.want)
		}
	}
}

func TestCSVRoundTrip(t *testing.T) {
	var first, again bytes.Buffer
	list := example().Recordings()
	if err := WriteCSV(&first, &list[0]); err != nil {
		t.Fatal(err)
	}
	r, err := ReadCSV(bytes.NewReader(first.Bytes()), "x.csv")
	if err != nil {
		t.Fatalf("%v in\n%s", err, first.String())
	}
	if err := WriteCSV(&again, &r); err != nil {
		t.Fatal(err)
	}
	if first.String() != again.String() || len(r.Entries) != 3 {
		t.Errorf("got\n%s\nwant\n%s", again.String(), first.String())
	}
}

func TestPerfettoReadsBack(t *testing.T) {
	list := []Recording{{Live: []Live{{Address: 8, Requested: 100, Stack: NoStack}}, Entries: []Entry{
		{Action: Alloc, Addr: 4096, Size: 50, TimeUs: 10, Stack: NoStack},
		{Action: FreeRequested, Addr: 8, Size: 100, TimeUs: 11, Stack: NoStack},
		{Action: FreeCompleted, Addr: 8, Size: 100, TimeUs: 11, Stack: NoStack},
	}}}
	var out bytes.Buffer
	if err := WritePerfetto(&out, list); err != nil {
		t.Fatal(err)
	}
	got, err := ReadKineto(&out, "x.json")
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Action: Alloc, Addr: 8, Size: 100, TimeUs: 10, Stack: NoStack},
		{Action: Alloc, Addr: 4096, Size: 50, TimeUs: 10, Stack: NoStack},
		{Action: FreeCompleted, Addr: 8, Size: 100, TimeUs: 11, Stack: NoStack},
	}
	if len(got) != 1 || !reflect.DeepEqual(got[0].Entries, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzRead(f *testing.F) {
	var good bytes.Buffer
	if err := Write(&good, example()); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte("\x80\x02}q\x00(X\x08\x00\x00\x00segmentsq\x01]q\x02X\x0d\x00\x00\x00" +
		"device_tracesq\x03]q\x04]q\x05(}q\x06(X\x06\x00\x00\x00actionX\x05\x00\x00\x00allocX\x04\x00\x00\x00addrM\x00" +
		"\x02X\x04\x00\x00\x00sizeK\x08X\x06\x00\x00\x00streamNK\x01ueu."))
	f.Fuzz(func(t *testing.T, pickle []byte) {
		s, err := ReadWithin(bytes.NewReader(pickle), 0, 32<<20)
		if err != nil {
			return
		}
		for _, r := range s.Recordings() {
			for i := range r.Entries {
				r.Site(r.Entries[i].Stack)
			}
			r.end()
			var out bytes.Buffer
			if err := WritePerfetto(&out, []Recording{r}); err != nil {
				t.Fatal(err)
			}
		}
		var first, again bytes.Buffer
		if err := Write(&first, s); err != nil {
			t.Fatal(err)
		}
		back, err := Read(&first)
		if err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		if err := Write(&again, back); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadCSV(f *testing.F) {
	f.Add("op,addr,size,stream,t_us\ninit_segment,0,2097152,0,small\ninit_live,0,100,0,512\nalloc,512,50,7,1000\n" +
		"free_completed,0,100,0,1004\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ReadCSV(strings.NewReader(text), "x")
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteCSV(&out, &r); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadCSV(&out, "y"); err != nil {
			t.Fatalf("what was read cannot be written and read: %v", err)
		}
		r.end()
	})
}

func FuzzReadKineto(f *testing.F) {
	f.Add(`{"traceEvents":[{"name":"[memory]","ts":1.5,"args":{"Bytes":-5,"Addr":7,"Device Type":1}},{"name":"x"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ReadKineto(strings.NewReader(text), "x")
		if err == nil {
			FromRecordings(list)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data, err := os.ReadFile(sharedData(b, "pytorch_snapshots", "bcrafton_memory_snapshot.pickle"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
