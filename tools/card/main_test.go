package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/profiles"
)

// runs lists the kept runs: folders of testdata, dry-* of the stand-in and the CPU, the others of a card.
func runs(t *testing.T, dry bool) map[string]*results {
	t.Helper()
	folders, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*results{}
	for _, folder := range folders {
		if strings.HasPrefix(filepath.Base(folder), "dry-") != dry {
			continue
		}
		if found[filepath.Base(folder)], err = openKept(folder); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) == 0 {
		t.Skip("no run of a card was brought back yet: tools/card/README.md")
	}
	return found
}

// A dry run's requests are those of the CPU, which vlmem generates to the byte.
func TestDryRequests(t *testing.T) {
	for name, r := range runs(t, true) {
		requests, err := r.requests()
		if err != nil || len(requests) == 0 {
			t.Fatalf("%s: %d requests, %v", name, len(requests), err)
		}
		for _, q := range requests {
			recorded, generated, err := q.compare()
			if q.Settings.Attention == "eager" && q.Settings.DType != "fp32" { // copies of strided operands: docs/workloads.md
				recorded.allocations, recorded.bytes = generated.allocations, generated.bytes
			}
			if err != nil || recorded != generated {
				t.Errorf("%s: %s: recorded %+v, generated %+v, %v", name, q.Name, recorded, generated, err)
			}
		}
	}
}

// unsorted are requests of which the storage of a sort is not generated.
var unsorted = map[string]int{"30b-a3b-batch": 4}

// On a card the generated sequence has the recorded one's peak, bytes and count, but for storage that is known to lack.
func TestCardRequests(t *testing.T) {
	for name, r := range runs(t, false) {
		requests, err := r.requests()
		if err != nil || len(requests) == 0 {
			t.Fatalf("%s: %d requests, %v", name, len(requests), err)
		}
		for _, q := range requests {
			recorded, generated, err := q.compare()
			if err != nil {
				t.Error(err)
				continue
			}
			if recorded.peak != generated.peak || recorded.allocations != generated.allocations+unsorted[q.Name] ||
				unsorted[q.Name] == 0 && recorded != generated || 1000*(recorded.bytes-generated.bytes) > recorded.bytes {
				t.Errorf("%s: %s: recorded %+v, generated %+v", name, q.Name, recorded, generated)
			}
		}
	}
}

// PyTorch's allocator on a card: every address as the rival places it, in a captured graph's private pool too, which a
// snapshot does not name at each allocation. Of large snapshots the answers of the day are kept, six are kept whole.
func TestCardAddresses(t *testing.T) {
	for name, r := range runs(t, false) {
		snapshots := 0
		for file, data := range r.small {
			if strings.HasSuffix(file, ".pickle.gz") {
				snapshots++
				checkAddresses(t, name+"/"+file, data)
			}
		}
		for line := range bytes.Lines(r.small["checks.jsonl"]) {
			var c struct {
				File    string
				Devices []struct {
					Total   int `json:"addresses_total"`
					Matched int `json:"addresses_matched"`
				}
			}
			if err := json.Unmarshal(line, &c); err != nil {
				t.Fatal(err)
			}
			for _, d := range c.Devices {
				snapshots++
				if d.Matched != d.Total || d.Total == 0 {
					t.Errorf("%s: %s: %d of %d addresses", name, c.File, d.Matched, d.Total)
				}
			}
		}
		if snapshots < 20 {
			t.Errorf("%s: %d snapshots were checked", name, snapshots)
		}
	}
}

// checkAddresses places a kept snapshot's allocations anew: addresses and segments are the recorded ones.
func checkAddresses(t *testing.T, name string, packed []byte) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	s, err := snapshot.Read(z)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for _, r := range s.Recordings() {
		cfg, err := pytorch.ConfigOf(&r)
		if err != nil {
			t.Fatal(err)
		}
		c := pytorch.Check(&r, cfg, 0)
		if c.AddressesMatched != c.AddressesTotal || c.SegmentsMatched != c.SegmentsTotal || c.AddressesTotal == 0 {
			t.Errorf("%s: %d of %d addresses, %d of %d segments: %s", name, c.AddressesMatched, c.AddressesTotal,
				c.SegmentsMatched, c.SegmentsTotal, c.FirstMismatch)
		}
	}
}

// What a process holds on a card beside its tensors lies in the interval that transformers' estimate assumes for it.
func TestCardContext(t *testing.T) {
	o := estimate.Request{Model: "qwen3-vl-2b", Engine: "transformers", Hardware: "h100", ImageSize: "none"}
	m, err := o.Load()
	if err != nil {
		t.Fatal(err)
	}
	mem, err := o.Estimate(&m)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(mem.Items, func(i engine.Item) bool { return i.Name == "CUDA context" })
	if at < 0 {
		t.Fatal("the estimate has no context")
	}
	for name, r := range runs(t, false) {
		var c contextResult
		if err := r.decode("context.json", &c); err != nil {
			t.Fatal(err)
		}
		bytes, ok := c.outside()
		if i := mem.Items[at]; !ok || bytes < int64(i.Low) || bytes > int64(i.High) {
			t.Errorf("%s: %d MiB, %v; the estimate says %v to %v", name, bytes>>20, ok, i.Low, i.High)
		}
	}
}

// predictAnew replaces the predictions of the day by those of today's model, for the card as it was probed.
func predictAnew(r *results, s contest.ShapeTimings) error {
	var h profile.Hardware
	if err := r.decode("probe.json", &h); err != nil {
		return err
	}
	shape, err := contest.ParseShape(s.Shape)
	if err != nil {
		return err
	}
	return shape.Predict(h.GPUs[0], s.Kernels)
}

// Today's model of tiles orders a card's kernels as the card did, of each shape and over all, and the kernel that it
// would choose takes at most 5 % more than the fastest.
func TestCardTiles(t *testing.T) {
	for name, r := range runs(t, false) {
		var v tilesResult
		if err := r.decode("tiles.json", &v); err != nil {
			t.Fatal(err)
		}
		var all []card.Timing
		for _, s := range v.Shapes {
			if err := predictAnew(r, s); err != nil {
				t.Fatal(err)
			}
			all = append(all, s.Kernels...)
			if a := card.Agreement(s.Kernels); a < 0.7 || !strings.HasPrefix(s.Shape, "attention:") && a < 0.9 {
				t.Errorf("%s: %s: rank correlation %.2f, want 0.7, and 0.9 of products", name, s.Shape, a)
			}
			chosen := slices.MinFunc(s.Kernels, func(a, b card.Timing) int {
				return cmp.Compare(a.PredictedSeconds, b.PredictedSeconds)
			})
			if over := chosen.Seconds / s.Kernels[0].Seconds; over > 1.05 {
				t.Errorf("%s: %s: %s would be chosen and takes %.2f of the fastest's time", name, s.Shape, chosen.Entry, over)
			}
		}
		if a := card.Agreement(all); a < 0.8 {
			t.Errorf("%s: rank correlation %.2f over all, want 0.8 or more", name, a)
		}
	}
}

// llama.cpp's buffers on a card are those of its estimate, to the hundredth of a MiB that its log prints.
func TestCardBuffers(t *testing.T) {
	for name, r := range runs(t, false) {
		loads, err := r.buffers()
		if err != nil || len(loads) == 0 {
			t.Fatalf("%s: %d loads, %v", name, len(loads), err)
		}
		for _, l := range loads {
			mem, err := l.row.estimated()
			if err != nil {
				t.Fatal(err)
			}
			if len(l.seen) < 6 {
				t.Errorf("%s at %s: %d buffers", l.row.name, l.row.depth, len(l.seen))
			}
			for what, seen := range l.seen {
				at := slices.IndexFunc(mem.Items, func(i engine.Item) bool { return i.Name+" "+i.Where == what })
				if at < 0 || math.Abs(float64(mem.Items[at].Bytes)/(1<<20)-seen) > 0.011 {
					t.Errorf("%s at %s: %s of %.2f MiB, estimated otherwise: %+v", l.row.name, l.row.depth, what, seen, mem.Items)
				}
			}
		}
	}
}

// Nothing of the machine that ran them stands in kept results.
func TestCardResultsNameNoMachine(t *testing.T) {
	words := regexp.MustCompile(`/tmp/|/work/|/home/|"kernel":|"fingerprint":|GPU-[1-9a-f]|process_api`)
	for name, r := range runs(t, false) {
		for file, data := range r.small {
			if found := words.Find(data); found != nil {
				t.Errorf("%s/%s holds %q", name, file, found)
			}
		}
	}
}

// llama.cpp on a card is as fast as is predicted for it: the median error over the rows is at most 30 %, and three of
// four rates lie inside their intervals. The H100's rates had a part in the fit (tools/speed/own.csv): public rows of
// that card are of 2025's llamafile, by which it decoded 1.2 to 1.7 times as fast as predicted.
func TestCardSpeed(t *testing.T) {
	for name, r := range runs(t, false) {
		list, err := r.paces()
		if err != nil || len(list) == 0 {
			t.Errorf("%s: %d rates, %v", name, len(list), err)
			continue
		}
		var errors []float64
		inside := 0
		for _, p := range list {
			errors = append(errors, math.Abs(p.predicted.Median/p.seen-1))
			if p.predicted.Low <= p.seen && p.seen <= p.predicted.High {
				inside++
			}
			t.Logf("%s: %s: %.1f, predicted %.1f (%.1f to %.1f)", name, p.what, p.seen, p.predicted.Median, p.predicted.Low,
				p.predicted.High)
		}
		slices.Sort(errors)
		if errors[len(errors)/2] > 0.3 || 4*inside < 3*len(list) {
			t.Errorf("%s: median error %.0f %%, %d of %d inside", name, 100*errors[len(errors)/2], inside, len(list))
		}
	}
}

// A row of llama.cpp's is predicted on the machine that was probed.
func TestPaces(t *testing.T) {
	h, err := profiles.Hardware("h100")
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	r := &results{small: map[string][]byte{"probe.json": data,
		"llama.log": []byte("qwen3-vl-2b-q8_0,99,512,0,9000.00,200.00\nqwen3-vl-2b-q8_0,99,512,4096,9000.00,190.00\n")}}
	list, err := r.paces()
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, p := range list {
		if p.predicted.Median <= 0 || p.predicted.Low > p.predicted.High {
			t.Errorf("%+v", p)
		}
	}
	if list[2].predicted.Median >= list[0].predicted.Median {
		t.Errorf("as fast at depth 4096 as with an empty cache: %+v", list)
	}
}

func TestReadings(t *testing.T) {
	r := &results{small: map[string][]byte{
		"probe.log": []byte("vlmem: no\nlast words\n"), "conformance.log": []byte("--- PASS: a\n--- SKIP: b\n--- FAIL: c\n"),
		"rates.json": []byte(`{"transfers":[{"bytes":2000000000,"pinned":true,"to_device_s":0.1,"to_host_s":0.2}]}`),
		"context.json": []byte(`{"memory":[{"step":"nothing","process_bytes":null},
			{"step":"graph","process_bytes":734003200,"reserved_bytes":209715200}]}`),
		"llama.log":  []byte("load_tensors: x\nqwen3-vl-2b-q8_0,99,512,0,5000.00,200.00\n"),
		"tiles.json": []byte(`{"shapes":[{}],"agreement":0.9}`),
		"pools.json": []byte(`{"results":[{"costs":[{"server":"cuMemAlloc","ns_per_op_p50":900}]}]}`),
	}}
	for _, c := range []struct {
		step step
		want string
	}{
		{step{"probe", 1, 2}, "failed: last words"}, {step{"probe", 9, 124}, "cut at its limit"},
		{step{"probe", 1, 3}, "not here: last words"}, {step{"conformance", 1, 1}, "1 tests passed, 1 failed, 1 skipped"},
		{step{"rates", 1, 0}, "20.0 GB/s to the device, 10.0 back, 2000000000 bytes"},
		{step{"context", 1, 0}, "500 MiB beside the tensors after 2 steps"}, {step{"pools", 1, 0}, "cuMemAlloc 900 ns"},
		{step{"llama", 1, 0}, "1 rows; qwen3-vl-2b-q8_0 at depth 0: prefill 5000.00, decode 200.00 tokens/s"},
		{step{"tiles", 1, 0}, "1 shapes, rank correlation 0.90"},
	} {
		if got, err := r.reading(c.step); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.step, got, err, c.want)
		}
	}
	if _, err := r.reading(step{"snapshots", 1, 0}); err != nil {
		t.Errorf("no recording: %v", err)
	}
	if _, err := (&results{}).reading(step{"probe", 1, 0}); err == nil {
		t.Error("a missing result is no error")
	}
}

func TestBadRuns(t *testing.T) {
	for what, steps := range map[string]string{"empty": "", "header": "a,b,c\nprobe,1,0\n",
		"number": "step,seconds,exit\nprobe,x,0\n"} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "steps.csv"), []byte(steps), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := open(folder); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if err := run([]string{t.TempDir()}, &bytes.Buffer{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}
