package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sharded runs a benchmark in n shards and returns their files.
func sharded(t *testing.T, n int, args ...string) []string {
	t.Helper()
	folder := t.TempDir()
	var files []string
	for i := range n {
		path := filepath.Join(folder, fmt.Sprintf("%d.json", i))
		// half by number, half by the scheduler's variables
		number, variables := fmt.Sprintf("%d/%d", i, n), []string(nil)
		if i%2 == 1 {
			number, variables = fmt.Sprintf("/%d", n), []string{fmt.Sprintf("JOB_COMPLETION_INDEX=%d", i)}
		}
		if r := vlmem(t, variables, append(args, "--shard", number, "-o", path)...); r.code != 0 || r.stdout != "" {
			t.Fatalf("shard %d of %d: %+v", i, n, r)
		}
		files = append(files, path)
	}
	return files
}

// TestMergedShardsAreTheUnshardedRun holds the exact figures of every format to the byte, for fewer and for more
// shards than there are units.
func TestMergedShardsAreTheUnshardedRun(t *testing.T) {
	args := []string{"bench", "--model", "qwen3-vl-2b", "--image", "64x64", "--image", "96x64", "--decode", "1",
		"--repeats", "0", "--allocators", "vlmem,bestfit,buddy"}
	for _, n := range []int{1, 4, 8} {
		files := sharded(t, n, args...)
		for _, format := range []string{"table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github",
			"action-benchmark", "bencher"} {
			want := vlmem(t, nil, append(args, "--format", format)...)
			got := vlmem(t, nil, append([]string{"merge", "--format", format}, files...)...)
			if got.code != 0 || got.stdout != want.stdout || format != "github" && got.stdout == "" {
				t.Errorf("%d shards as %s: %s\nunsharded: %s\n%s", n, format, got.stdout, want.stdout, got.stderr)
			}
		}
	}
}

// TestShardsOfTimedRunsMerge: times are no one's to compare, but all are there, with their machine.
func TestShardsOfTimedRunsMerge(t *testing.T) {
	files := sharded(t, 3, "bench", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1", "--repeats", "1")
	r := vlmem(t, nil, append([]string{"merge", "--format", "json"}, files...)...)
	for _, want := range []string{`"allocator": "pytorch"`, `"kind": "touched"`, `"ns_per_op_p50"`, `"machine"`} {
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("exit %d, %s is not in %s%s", r.code, want, r.stdout, r.stderr)
		}
	}
}

func TestShardsAreRepeatableAndFaultsNamed(t *testing.T) {
	args := []string{"bench", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1", "--repeats", "0"}
	files, again := sharded(t, 3, args...), sharded(t, 3, args...)
	for i := range files {
		one, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		two, err := os.ReadFile(again[i])
		// A setting of the machine's kernel may change between the two, and its fingerprint with it.
		same := regexp.MustCompile(`"fingerprint": "[0-9a-f]*"`)
		if err != nil || same.ReplaceAllString(string(one), "") != same.ReplaceAllString(string(two), "") {
			t.Errorf("shard %d differs when it is run again: %v\n%s\nand\n%s", i, err, one, two)
		}
	}
	other := sharded(t, 3, append(args, "--granule", "4KiB")...)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"merge"}, "takes the files of all shards"},
		{[]string{"merge", files[0], files[2]}, "missing: 1"},
		{[]string{"merge", files[0], files[1], again[1], files[2]}, "shard 1/3 is in both"},
		{[]string{"merge", files[0], other[1], files[2]}, "settings granule=2MiB and granule=4KiB"},
		{[]string{"merge", "none.json"}, "none.json"},
		{[]string{"merge", files[0], "--format", "html"}, "--format"},
		{append(args, "--shard", "3/3"), "count from 0"},
		{append(args, "--shard", "/3"), "no JOB_COMPLETION_INDEX"},
		{append(args, "--shard", "0/3", "--format", "csv"), "--shard writes JSON"},
		{append(args, "--shard", "0/3", "--save", "x"), "--save"},
		{append(args, "--shard", "0/3", "--report", "csv=x"), "--report"},
		{append(args, "--shard", "0/3", "--backend", "sim"), "--backend"},
		{append(args, "--touch"), "--repeats 0"},
		{append(args, "--save", "x"), "--repeats 0"},
		{append(args, "--allocators", "go,go"), "twice"},
		{[]string{"bench", "--backend", "sim", "--image", "32x32", "--image", "64x64"}, "one model and one image"},
	} {
		r := vlmem(t, nil, c.args...)
		if r.code != exitUsage || r.stdout != "" || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v, want %q", c.args, r, c.want)
		}
	}
}

// TestMergedAdviceIsTheUnshardedConfiguration holds a configuration whose seeds were replayed in shards to the byte.
func TestMergedAdviceIsTheUnshardedConfiguration(t *testing.T) {
	args := []string{"advise", "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-2b", "--image", "640x480",
		"--context", "2048", "--seeds", "5", "--mix", "chat"}
	for _, n := range []int{1, 4, 8} {
		files := sharded(t, n, args...)
		for _, format := range []string{"yaml", "json"} {
			want := vlmem(t, nil, append(args, "--format", format)...)
			for _, flags := range [][]string{{"--format", format}, nil} {
				got := vlmem(t, nil, slices.Concat([]string{"merge"}, flags, files)...)
				if got.code != 0 || got.stdout == "" || got.stdout != want.stdout || got.stderr != want.stderr {
					t.Errorf("%d shards as %s: %s\nunsharded: %s\n%s", n, format, got.stdout, want.stdout, got.stderr)
				}
				if format == "json" {
					break // without --format it is YAML
				}
			}
		}
	}
}

func TestShardsOfAdviceFaultsAreNamed(t *testing.T) {
	args := []string{"advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--image", "64x64", "--context", "256",
		"--seeds", "2"}
	files := sharded(t, 2, args...)
	other := sharded(t, 2, append(args, "--context", "512")...)
	folder := t.TempDir()
	machine := filepath.Join(folder, "machine.yaml")
	text, err := os.ReadFile("../../profiles/hardware/i5-10210u.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(machine, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(string(text))
	moved := sharded(t, 2, append(args, "--hardware", machine)...)
	write(strings.Replace(string(text), "name: i5-10210u", "name: another", 1))
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"merge", files[1]}, exitUsage, "missing: 0"},
		{[]string{"merge", files[0], other[1]}, exitUsage, "flags context=256 and context=512"},
		{append([]string{"merge"}, moved...), exitUsage, "is not that of the shards"},
		{append([]string{"merge", "--format", "csv"}, files...), exitUsage, "--format"},
		{[]string{"advise", "--shard", "0/2"}, exitUsage, "needs --hardware"},
		{append(args, "--shard", "0/2", "--for", "vllm"), exitUsage, "does not go with --for"},
		{append(args, "--shard", "0/2", "--explain"), exitUsage, "does not go with --explain"},
		{append(args, "--shard", "0/2", "--format", "yaml"), exitUsage, "--shard writes JSON"},
		{append(args, "--shard", "2/2"), exitUsage, "count from 0"},
		{append(args, "--shard", "0/2", "--model", "qwen3-vl-235b-a22b"), exitUnable, "is missing"},
	} {
		r := vlmem(t, nil, c.args...)
		if r.code != c.code || r.stdout != "" || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v, want %q", c.args, r, c.want)
		}
	}
}
