package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

const hostileFunction = `</script><img src=x onerror=alert(1)>;"'` + "\u202e"

// stranded is a program on a card of 1,100 MiB that keeps a small block in each of three segments of 300 MiB, so that
// 600 MiB fit no gap; one of its functions has a hostileFunction name.
func stranded(t *testing.T) *snapshot.Snapshot {
	t.Helper()
	b := trace.NewBuilder("stranded")
	var work []uint32
	for range 3 {
		b.Free(b.Alloc(300<<20, trace.General, 0, b.Tag("warm.py:1 warm")), 0)
		b.Alloc(20<<20, trace.General, 0, b.Tag("cache.py:7 keep"))
		work = append(work, b.Alloc(280<<20, trace.General, 0, b.Tag(hostileFunction)))
	}
	for _, slot := range work {
		b.Free(slot, 0)
	}
	b.Alloc(600<<20, trace.General, 0, b.Tag("attention.py:42 scores"))
	s, err := pytorch.Record(b.Trace(), pytorch.DefaultConfig(), 1100<<20)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pickled(t *testing.T, s *snapshot.Snapshot) string {
	t.Helper()
	var out bytes.Buffer
	if err := snapshot.Write(&out, s); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// memoryProfile is a file as jax.profiler.save_device_memory_profile() writes it (jax 0.10.2): samples of buffers with
// counts and bytes, on the host and on a card, and of executables, which have neither device nor bytes.
func memoryProfile(t *testing.T) string {
	t.Helper()
	weights := &profile.Function{ID: 1, Name: "weights", Filename: "/home/me/train.py"}
	ones := &profile.Function{ID: 2, Name: "ones", Filename: "/x/lib/python3.11/site-packages/jax/_src/numpy/lax_numpy.py"}
	at := []*profile.Location{{ID: 1, Line: []profile.Line{{Function: ones, Line: 88}}},
		{ID: 2, Line: []profile.Line{{Function: weights, Line: 2}}}}
	buffer := func(device string, count, bytes int64) *profile.Sample {
		return &profile.Sample{Location: at, Value: []int64{count, bytes},
			Label: map[string][]string{"kind": {"buffer"}, "device": {device}}}
	}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "allocations", Unit: "count"},
		{Type: "space", Unit: "bytes"}},
		Sample: []*profile.Sample{buffer("cpu:0", 4, 4<<20), buffer("gpu:1", 3, 10),
			{Location: at[1:], Value: []int64{1, 0}, Label: map[string][]string{"kind": {"executable"}}}},
		Location: at, Function: []*profile.Function{weights, ones}}
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		t.Fatal(err)
	}
	return write(t, "memory.prof", out.String())
}

func TestExplainMemoryProfile(t *testing.T) {
	path := memoryProfile(t)
	e := explained(t, path, "--by", "stack")
	want := []string{"numpy/lax_numpy.py:88 ones", "me/train.py:2 weights"}
	if len(e.Stacks) != 2 || e.Stacks[0].Bytes != 4<<20 || e.Stacks[0].Blocks != 4 || e.Stacks[0].Device != -1 ||
		e.Stacks[1].Bytes != 10 || e.Stacks[1].Blocks != 3 || e.Stacks[1].Device != 1 ||
		!slices.Equal(e.Stacks[0].Frames, want) {
		t.Errorf("got %+v", e.Stacks)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"explain", path}, 0, "host: a state without history: 4 MiB live in 4 blocks"},
		{[]string{"explain", path, "--format", "html"}, 0, "device 1"},
		{[]string{"explain", path, "--by", "stack", "--format", "folded"}, 0,
			"me/train.py:2 weights;numpy/lax_numpy.py:88 ones 4194304"},
		{[]string{"trace", "info", path}, 0, "4 MiB"},
		{[]string{"trace", "export", path, "--to", "snapshot"}, 3, "which no allocator can replay; vlmem explain"},
		{[]string{"bench", "--trace", path}, 3, "a state without history, which no allocator can replay; vlmem explain"},
		{[]string{"advise", "--for", "pytorch", "--trace", path}, 3, "which no allocator can replay; vlmem explain"},
	} {
		r := vlmem(t, nil, c.args...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%v: exit %d\n%s%s\nwant exit %d and %q", c.args, r.code, r.stdout, r.stderr, c.code, c.want)
		}
	}
}

func explained(t *testing.T, args ...string) account.Explanation {
	t.Helper()
	r := vlmem(t, nil, append(append([]string{"explain"}, args...), "--format", "json")...)
	var e account.Explanation
	if err := json.Unmarshal([]byte(r.stdout), &e); r.code != 0 || err != nil {
		t.Fatalf("%v: exit %d, %v: %s", args, r.code, err, r.stderr)
	}
	return e
}

func TestExplainAnswersARefusedRequest(t *testing.T) {
	path := write(t, "s.pickle", pickled(t, stranded(t)))
	r := vlmem(t, nil, "explain", path)
	golden(t, "explain.txt", strings.ReplaceAll(r.stdout, filepath.Dir(path), "DIR"))
	e := explained(t, path)
	d := e.Devices[0]
	if o := d.OOMs[0]; o.Requested != 600<<20 || o.Free != 840<<20 || o.LargestFree != 280<<20 ||
		*o.Capacity != 1100<<20 ||
		len(o.ServableBy) == 0 || o.ServableBy[0] != "expandable_segments:True" || *d.PeakLive != 900<<20 {
		t.Errorf("%+v", o)
	}
	r = vlmem(t, nil, "advise", "--for", "pytorch", "--trace", path, "--hardware", "i5-10210u+gtx-1080")
	if r.code != 0 || !strings.Contains(r.stdout, "PYTORCH_ALLOC_CONF=expandable_segments:True") {
		t.Errorf("advise: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// Names of a recording are text: on a terminal without control characters, on the page without markup, and the page's
// icicle holds what lived.
func TestExplainShowsHostileNamesAsText(t *testing.T) {
	path := write(t, "s.pickle", pickled(t, stranded(t)))
	if r := vlmem(t, nil, "explain", path, "--by", "stack"); strings.Contains(r.stdout, "\u202e") {
		t.Errorf("a mark that turns the text round reaches the terminal:\n%s", r.stdout)
	}
	page := vlmem(t, nil, "explain", path, "--format", "html").stdout
	if strings.Contains(page, "<img") || !strings.Contains(page, "drawIcicle({") ||
		!strings.Contains(page, `"n":"all","v":943718400`) {
		t.Errorf("the page:\n%.3000s", page)
	}
	folded := vlmem(t, nil, "explain", path, "--format", "folded").stdout
	if want := "cache.py:7 keep 41943040\n"; !strings.Contains(folded, want) || strings.Count(folded, ";") != 0 {
		t.Errorf("folded: %q, want a line %q and no separators within names", folded, want)
	}
}

// The same snapshot inside torch.save's archive and a page of memory_viz is read as such; its segments alone are a
// state.
func TestExplainReadsContainers(t *testing.T) {
	s := stranded(t)
	data := pickled(t, s)
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	f, err := z.Create("saved/data.pkl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(data)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	page := `<!DOCTYPE html><script>const local_files = [{"name": "snapshot.pickle", "base64": "` +
		base64.StdEncoding.EncodeToString([]byte(data)) + `"}]</script>`
	old := "\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + "\x80\x02M\xe9\x03." + "\x80\x02}q\x00X\x0d\x00\x00\x00" +
		"little_endianq\x01\x88s." + data + "\x80\x02]q\x00."
	for _, path := range []string{write(t, "saved.pt", archive.String()), write(t, "page.html", page),
		write(t, "old.pt", old)} {
		if e := explained(t, path); len(e.Devices) != 1 || len(e.Devices[0].OOMs) != 1 {
			t.Errorf("%s: %+v", path, e.Devices)
		}
	}
	s.Traces = nil
	path := write(t, "state.pickle", pickled(t, s))
	if e := explained(t, path); e.HasHistory || e.Devices[0].PeakLive != nil || e.Devices[0].Reserved != 900<<20 {
		t.Errorf("a state: %+v", e)
	}
	for _, args := range [][]string{{"bench", "--trace", path}, {"trace", "import", path}, {"trace", "plan", path},
		{"advise", "--for", "pytorch", "--trace", path, "--hardware", "i5-10210u+gtx-1080"}} {
		r := vlmem(t, nil, args...)
		if r.code != 3 || r.stdout != "" || !strings.Contains(r.stderr, "_record_memory_history") {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	if r := vlmem(t, nil, "trace", "info", path); r.code != 0 || !strings.Contains(r.stdout, "a state without history") {
		t.Errorf("info: exit %d\n%s", r.code, r.stdout)
	}
}

// What a profiler's trace says of a card and of the host: what was allocated before it, and that the host is no card.
func TestExplainReadsTheSumsOfAProfiler(t *testing.T) {
	event := func(ts, kind, id, bytes, total string) string {
		return `{"name":"[memory]","ts":` + ts + `,"args":{"Device Type":` + kind + `,"Device Id":` + id + `,"Addr":` + ts +
			`,"Bytes":` + bytes + `,"Total Allocated":` + total + `,"Total Reserved":3000000}}`
	}
	card := event("10", "1", "0", "1024", "2001024") + "," + event("20", "1", "0", "1024", "2002048")
	host := event("30", "0", "-1", "4", "4")
	both := write(t, "both.json", `{"traceEvents":[`+card+","+host+`]}`)
	e := explained(t, both)
	if len(e.Devices) != 2 || *e.Devices[0].PeakLive != 2002048 || *e.Devices[0].PeakHeld != 3000000 ||
		e.Devices[1].Name != "host" {
		t.Errorf("%+v", e.Devices)
	}
	r := vlmem(t, nil, "bench", "--trace", both, "--repeats", "1", "--format", "json")
	if r.code != 0 || strings.Contains(r.stdout, ".host") || !strings.Contains(r.stdout, `"lower_bound_bytes": 2002048`) {
		t.Errorf("bench: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	alone := write(t, "host.json", `[`+host+`]`)
	r = vlmem(t, nil, "advise", "--for", "pytorch", "--trace", alone, "--hardware", "i5-10210u+gtx-1080")
	if r.code != 3 || !strings.Contains(r.stderr, "--for malloc") {
		t.Errorf("the host alone: exit %d, %s", r.code, r.stderr)
	}
	for text, want := range map[string]string{
		`{"segments":[],"device_traces":[]}`:      "a snapshot as JSON",
		`[[1,2],[3,4]]`:                           "export_memory_timeline",
		`{"profile_memory":1,"traceEvents":[{}]}`: "nothing was allocated",
		`{"a":1}`: "not a Chrome trace",
		`{"traceEvents":[{"args":"/device:TPU:0"}]}`: "save_device_memory_profile",
	} {
		r := vlmem(t, nil, "explain", write(t, "x.json", text))
		if r.code != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit %d, %s", text, r.code, r.stderr)
		}
	}
}

// bench, advise and trace take a card by its number, not by its place among those that hold memory.
func TestDeviceByNumber(t *testing.T) {
	s := stranded(t)
	s.Traces = [][]snapshot.Entry{{{Action: snapshot.Mark, Stack: snapshot.NoStack}}, s.Traces[0]}
	for i := range s.Segments {
		s.Segments[i].Device = 1
	}
	path := write(t, "second.pickle", pickled(t, s))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"bench", "--trace", path, "--repeats", "0", "--device", "1"}, 0, "pytorch"},
		{[]string{"bench", "--trace", path, "--device", "0"}, 2, "no device 0 with a history among its 1"},
		{[]string{"bench", "--device", "0"}, 2, "--device chooses a card of a recording: it goes with --trace"},
		{[]string{"advise", "--for", "pytorch", "--trace", path, "--device", "1"}, 0, "expandable_segments:True"},
		{[]string{"advise", "--for", "pytorch", "--trace", path, "--device", "2"}, 2, "no device 2 with a history"},
		{[]string{"advise", "--for", "pytorch", "--device", "1"}, 2, "--device chooses a card of a recording"},
		{[]string{"advise", "--device", "1"}, 2, "it goes with --for pytorch"},
		{[]string{"trace", "import", path, "--device", "1"}, 0, "vlmem-trace 1"},
	} {
		r := vlmem(t, nil, c.args...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
			t.Errorf("%v: exit %d, %s%s, want exit %d and %q", c.args, r.code, r.stdout, r.stderr, c.code, c.want)
		}
	}
}

func TestExplainComparesAndRefuses(t *testing.T) {
	b := trace.NewBuilder("later")
	b.Alloc(5<<20, trace.General, 0, b.Tag("leak.py:3 append"))
	s, err := pytorch.Record(b.Trace(), pytorch.DefaultConfig(), 0)
	if err != nil {
		t.Fatal(err)
	}
	empty := *s
	before, after := stranded(t), write(t, "b.pickle", pickled(t, &empty))
	path := write(t, "a.pickle", pickled(t, before))
	r := vlmem(t, nil, "explain", path, after, "--format", "json")
	var c account.Comparison
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || c.Devices[0].New != 5<<20 ||
		c.Devices[0].Gone != 60<<20 ||
		c.Devices[0].Grown[0].Net != 5<<20 {
		t.Errorf("exit %d, %v: %+v", r.code, err, c)
	}
	r = vlmem(t, nil, "explain", path, "--from", "0", "--by", "phase")
	if want := "device 0: 60 MiB more lives at the later moment"; r.code != 0 || !strings.Contains(r.stdout, want) {
		t.Errorf("exit %d, %s%s, want %q", r.code, r.stdout, r.stderr, want)
	}
	for _, x := range []struct {
		args []string
		want string
	}{
		{[]string{}, "takes one RECORDING or two"},
		{[]string{path, "--by", "color"}, `--by "color": want one of site, stack, phase, module, pool, stream`},
		{[]string{path, "--to", "peak"}, "--to needs --from"},
		{[]string{path, after, "--from", "peak"}, "--from and --to are moments of one recording, got 2"},
		{[]string{path, "--from", "step:2"}, "--from: moment step:2: no steps were found on device 0"},
		{[]string{path, "--from", "end", "--to", "0"}, "--from end is after --to 0"},
		{[]string{path, "--from", "0", "--format", "html"}, "--format html is of one moment"},
		{[]string{path, "--at", "noon"}, `moment "noon"`},
		{[]string{after, "--at", "oom"}, "refused no request"},
		{[]string{path, "--torch", "two"}, `--torch: release "two"`},
		{[]string{path, "--device-memory", "much"}, "--device-memory: size"},
		{[]string{path, "--at", "0", "--from", "0"}, "--at 0 is of one recording's memory"},
		{[]string{path, after, "--at", "end"}, "--at end is of one recording's memory"},
		{[]string{path, after, "--by", "phase"}, "--by phase tells one recording's"},
		{[]string{write(t, "e.pickle", "\x80\x04].")}, "a snapshot without memory"},
		{[]string{write(t, "z.zip", "PK\x03\x04")}, "archive of torch.save"},
		{[]string{write(t, "p.html", "<html></html>")}, "an HTML page without a snapshot"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		r := vlmem(t, nil, append(append([]string{"explain"}, x.args...), "-o", out)...)
		if _, err := os.Stat(out); r.code != 2 || !strings.Contains(r.stderr, x.want) || err == nil {
			t.Errorf("%v: exit %d, %s; want %q and no file", x.args, r.code, r.stderr, x.want)
		}
	}
}
