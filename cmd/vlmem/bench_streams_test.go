package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/bench"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// runWith is one command line with extra environment variables.
func runWith(t *testing.T, variables map[string]string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, complaints strings.Builder
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &complaints,
		lookup: func(name string) (string, bool) {
			v, ok := variables[name]
			return v, ok
		}}
	code = run(t.Context(), env, args)
	return out.String(), complaints.String(), code
}

func TestBenchStreamsSim(t *testing.T) {
	out, complaints, code := runWith(t, nil, "bench", "streams", "--on", "sim", "--format", "json", "--repeats", "2")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, complaints)
	}
	var got bench.Streams
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	for i, r := range got.Results {
		if r.Clock != "simulated" || r.Device != "NVIDIA GeForce GTX 1080" || r.Overlap.Overlapped >= r.Overlap.Serial {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if len(got.Results) != 2 || got.Results[0].Overlap.Speedup < 1.7 || got.Results[1].Overlap.Speedup > 1.1 {
		t.Errorf("balanced work gains much, a vision tower little: %+v", got.Results)
	}
}

func TestBenchStreamsCUDA(t *testing.T) {
	lib := standin.Build(t, standin.Options{Card: "gtx1080ti"})
	out, complaints, code := runWith(t, map[string]string{"VLMEM_LIBCUDA": lib.Path}, "bench", "streams", "--on", "cuda",
		"--image", "64x64", "--repeats", "1")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, complaints)
	}
	for _, want := range []string{"GTX 1080 Ti", "cuMemAllocAsync", "stream pool, 2 in use", "measured"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	if leaks := lib.Leaks(t); leaks != "clean" {
		t.Errorf("left behind: %s", leaks)
	}
}

func TestBenchStreamsRefuses(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--on tpu", 2, "unknown --on"},
		{"--on sim --hardware i5-10210u", 2, "no card to simulate"},
		{"--on sim --image 64", 2, "want WIDTHxHEIGHT"},
		{"--on sim --repeats 0", 2, "at least 1"},
		{"--on sim --format csv", 2, "want one of table"},
		{"--on cuda", 3, "no CUDA driver"},
	} {
		out, complaints, code := runWith(t, map[string]string{"VLMEM_LIBCUDA": "/nonexistent/libcuda.so.1"},
			append([]string{"bench", "streams"}, strings.Fields(c.args)...)...)
		if code != c.code || out != "" || !strings.Contains(complaints, c.says) || strings.Count(complaints, "\n") != 1 {
			t.Errorf("%s: exit %d, %q on stdout, says %q", c.args, code, out, complaints)
		}
	}
}

// TestBenchBackendIsStreams: the old name does the same, says so, and takes nothing that it would not do.
func TestBenchBackendIsStreams(t *testing.T) {
	overlaps := func(args ...string) (list []stream.Overlap, complaints string) {
		out, complaints, code := runWith(t, nil, append(args, "--repeats", "1", "--format", "json")...)
		var got bench.Streams
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("%v: exit %d, %v", args, code, err)
		}
		for _, r := range got.Results {
			list = append(list, r.Overlap)
		}
		return list, complaints
	}
	now, _ := overlaps("bench", "streams", "--on", "sim")
	old, complaints := overlaps("bench", "--backend", "sim")
	if len(now) != 2 || !slices.Equal(now, old) || !strings.Contains(complaints, "vlmem bench streams --on sim") {
		t.Errorf("now %+v, before %+v, says %q", now, old, complaints)
	}
	saved := filepath.Join(t.TempDir(), "x.json")
	for _, flag := range []string{"--save=" + saved, "--report=junit=" + saved, "--against=" + saved, "--trace=x",
		"--touch"} {
		out, complaints, code := runWith(t, nil, "bench", "--backend", "sim", flag)
		if code != 2 || out != "" || !strings.Contains(complaints, "has no meaning with --backend") {
			t.Errorf("%s: exit %d, says %q", flag, code, complaints)
		}
	}
	if _, err := os.Stat(saved); err == nil {
		t.Error("a file was written by a command that was refused")
	}
}

// TestProbeShowsTheCard reads each stand-in card through the whole command.
func TestProbeShowsTheCard(t *testing.T) {
	for card, want := range map[string]struct {
		name string
		sms  int
		l2   int64
		gbps float64
	}{
		"p6000":     {"Quadro P6000", 30, 3 << 20, 433},
		"gtx1080ti": {"NVIDIA GeForce GTX 1080 Ti", 28, 2816 << 10, 484},
		"mx350":     {"NVIDIA GeForce MX350", 5, 512 << 10, 56},
	} {
		t.Run(card, func(t *testing.T) {
			lib := standin.Build(t, standin.Options{Card: card})
			out, complaints, code := runWith(t, map[string]string{"VLMEM_LIBCUDA": lib.Path}, "probe", "--reported", "--format",
				"json")
			if code != 0 {
				t.Fatalf("exit %d: %s", code, complaints)
			}
			var got struct {
				GPUs []struct {
					Name       string  `json:"name"`
					Capability string  `json:"compute_capability"`
					Shared     int64   `json:"shared_memory_per_block_bytes"`
					SharedSM   int64   `json:"shared_memory_per_sm_bytes"`
					Threads    int     `json:"max_threads_per_block"`
					SMs        int     `json:"sm_count"`
					L2         int64   `json:"l2_bytes"`
					Bandwidth  float64 `json:"bandwidth_bytes_per_s"`
				} `json:"gpus"`
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			if len(got.GPUs) != 1 {
				t.Fatalf("%d cards", len(got.GPUs))
			}
			g := got.GPUs[0]
			if g.Name != want.name || g.Capability != "6.1" || g.Shared != 48<<10 || g.SharedSM != 96<<10 || g.Threads != 1024 ||
				g.SMs != want.sms || g.L2 != want.l2 || math.Round(g.Bandwidth/1e9) != want.gbps {
				t.Errorf("%+v", g)
			}
			table, _, _ := runWith(t, map[string]string{"VLMEM_LIBCUDA": lib.Path}, "probe", "--reported")
			if !strings.Contains(table, want.name) || !strings.Contains(table, "48 KiB") || !strings.Contains(table, "96 KiB") {
				t.Errorf("the table lacks the card:\n%s", table)
			}
		})
	}
}
