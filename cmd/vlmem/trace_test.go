package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// run10 is a short program: weights, a cache that grows, activations that come and go, one block used on a second
// stream.
const run10 = `vlmem-trace 1 name="short run"
t 1 "weights.py:3 load"
t 2 "model.py:54 forward"
t 3 "decode"
a 1 33554432 0 general 1 1000
a 2 4194304 0 kv_cache 2 2000
a 3 2097152 0 vision_features 2 3000
f 3 0 4000
m 3 5000
a 4 1500000 0 general 2 6000
u 4 1 6500
f 4 0 7000
s * 7500
a 5 4194304 0 kv_cache 2 8000
f 2 0 9000
end 11
`

func TestTraceInfo(t *testing.T) {
	path := write(t, "run.vlmt", run10)
	r := vlmem(t, nil, "trace", "info", path)
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	golden(t, "trace-info.txt", strings.ReplaceAll(r.stdout, filepath.Dir(path), "DIR"))
	r = vlmem(t, nil, "trace", "info", path, "--format", "json", "--top", "1")
	golden(t, "trace-info.json", strings.ReplaceAll(r.stdout, filepath.Dir(path), "DIR"))
}

// A trace exported with addresses is what the allocator's model gives, so it checks as exact, and imports as it was.
func TestTraceExportCheckImport(t *testing.T) {
	path := write(t, "run.vlmt", run10)
	dir := t.TempDir()
	for _, to := range []string{"snapshot", "csv", "perfetto"} {
		out := filepath.Join(dir, "run."+to)
		if r := vlmem(t, nil, "trace", "export", path, "--to", to, "-o", out); r.code != 0 {
			t.Fatalf("%s: exit %d: %s", to, r.code, r.stderr)
		}
		r := vlmem(t, nil, "trace", "import", out)
		if r.code != 0 || strings.Count(r.stdout, "\na ") != 5 || strings.Count(r.stdout, "\nf ") != 3 {
			t.Errorf("%s: exit %d, %s imports as\n%s", to, r.code, r.stderr, r.stdout)
		}
		if to == "perfetto" {
			continue
		}
		r = vlmem(t, nil, "trace", "check", out)
		if r.code != 0 {
			t.Errorf("%s: exit %d: %s%s", to, r.code, r.stdout, r.stderr)
		}
		golden(t, "trace-check.txt", r.stdout)
	}
	r := vlmem(t, nil, "trace", "export", path, "--to", "minimalloc")
	want := "id,lower,upper,size\n0,0,11,33554432\n1,1,10,4194304\n2,2,3,2097152\n3,5,7,1500000\n4,9,11,4194304\n"
	if r.stdout != want {
		t.Errorf("minimalloc: got\n%s\nwant\n%s", r.stdout, want)
	}
}

// check exits with 1 where addresses differ, with 4 where there is nothing to compare.
func TestTraceCheckVerdicts(t *testing.T) {
	const header = "op,addr,size,stream,t_us\n"
	for _, c := range []struct {
		name, rows string
		code       int
		want       string
	}{
		{"exact.csv", "segment_alloc,4194304,2097152,0,1\nalloc,4194304,100,0,2\nalloc,4194816,100,0,3\n", 0, ""},
		{"differs.csv", "segment_alloc,4194304,2097152,0,1\nalloc,4194304,100,0,2\nalloc,4195328,100,0,3\n", 1,
			"vlmem: device 0: 1 of 2 addresses, 1 of 1 segments and 0 of 0 releases are as recorded\n"},
		{"segment.csv", "segment_alloc,4194304,4194304,0,1\nalloc,4194304,100,0,2\n", 1,
			"vlmem: device 0: 1 of 1 addresses, 0 of 1 segments and 0 of 0 releases are as recorded\n"},
		{"ends.csv", "segment_alloc,4194304,2097152,0,1\nalloc,4194304,100,0,2\nsegment_alloc,8388608,2097152,0,1\n", 0, ""},
		{"start.csv", "init_segment,4194304,2097152,0,small\n", 4,
			"vlmem: PATH: the recording holds no allocations to compare\n"},
		{"nothing.csv", "alloc,4194304,100,0,2\n", 4,
			"vlmem: device 0: 1 allocations lie in no segment that the recording holds, so their addresses cannot be " +
				"predicted\nvlmem: device 0: the recording allows no prediction\n"},
	} {
		path := write(t, c.name, header+c.rows)
		r := vlmem(t, nil, "trace", "check", path, "--format", "json")
		if r.code != c.code || strings.ReplaceAll(r.stderr, path, "PATH") != c.want ||
			!strings.Contains(r.stdout, `"addresses_total"`) {
			t.Errorf("%s: exit %d, stderr %q, want %d, %q\n%s", c.name, r.code, r.stderr, c.code, c.want, r.stdout)
		}
	}
}

func TestTraceRefuses(t *testing.T) {
	path, short := write(t, "run.vlmt", run10), write(t, "short.vlmt", run10[:200])
	double := write(t, "double.vlmt", strings.Replace(run10, "m 3 5000", "f 3", 1))
	class := write(t, "class.pickle", "\x80\x04\x8c\x02os\x8c\x06system\x93.")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"info"}, "trace info takes one FILE, got 0"},
		{[]string{"info", t.TempDir()}, "it is a folder, want a file"},
		{[]string{"info", filepath.Join(t.TempDir(), "none")}, "no such file"},
		{[]string{"info", short}, "short.vlmt:8: the trace ends without its end line"},
		{[]string{"info", double}, "double.vlmt:9: free of id 3, which is not live: a double free"},
		{[]string{"import", class}, "class.pickle: byte 15: pickle opcode 0x93 is not one that snapshots use"},
		{[]string{"import", path, "--device", "1"}, "no device 1 with a history among its 1"},
		{[]string{"check", path}, "a vlmem trace carries no addresses"},
		{[]string{"check", path, "--device-memory", "much"}, "--device-memory: size"},
		{[]string{"export", path, "--to", "pdf"}, `unknown --to "pdf": want one of snapshot, perfetto, csv, minimalloc`},
		{[]string{"export", path, "--alloc-conf", "expandable_segments:true"}, "want exactly True or False"},
	} {
		out := filepath.Join(t.TempDir(), "out")
		r := vlmem(t, nil, append(append([]string{"trace"}, c.args...), "-o", out)...)
		_, err := os.Stat(out)
		if r.code != 2 || r.stdout != "" || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 ||
			err == nil {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want one line with %q and no file", c.args, r.code, r.stdout, r.stderr,
				c.want)
		}
	}
}
