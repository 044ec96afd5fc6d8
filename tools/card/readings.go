package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling/contest"
)

// contextResult is what context.py writes.
type contextResult struct {
	Torch, Card, Device string
	Memory              []struct {
		Step          string
		ReservedBytes int64  `json:"reserved_bytes"` // by PyTorch's caching allocator
		ProcessBytes  *int64 `json:"process_bytes"`  // nil where the driver does not tell
	}
	AllocateAndFreeNs map[string]float64 `json:"allocate_and_free_ns"` // by bytes
	ClearNs           float64            `json:"clear_2mib_ns"`
}

// outside is what the process holds on the card beside PyTorch's allocator after the last step, in bytes.
func (c *contextResult) outside() (int64, bool) {
	if len(c.Memory) == 0 {
		return 0, false
	}
	last := c.Memory[len(c.Memory)-1]
	if last.ProcessBytes == nil {
		return 0, false
	}
	return *last.ProcessBytes - last.ReservedBytes, true
}

// ratesResult is what rates.py writes.
type ratesResult struct {
	Transfers []struct {
		Bytes    int64
		Pinned   bool
		ToDevice float64 `json:"to_device_s"`
		ToHost   float64 `json:"to_host_s"`
	}
	Attention []struct {
		Queries, Keys int
		HeadDim       int `json:"head_dim"`
		Backend       string
		Seconds       *float64
	}
}

// tilesResult is the part of `bench tiles --gpu` that is held to the model.
type tilesResult struct {
	Card      string
	Agreement *float64
	Shapes    []contest.ShapeTimings
}

// pluggableResult is what pluggable.py writes: on a card two allocators, on the CPU two caches in turns.
type pluggableResult struct {
	Equal      bool
	Allocators map[string]struct {
		Turns   []turnResult
		Process *int64 `json:"process_bytes"`
		Pool    struct {
			Peak int64 `json:"peak_reserved_bytes"`
		}
		Reserved int64 `json:"reserved_bytes"`
	}
	Turns map[string][]turnResult
}

type turnResult struct {
	Seconds     float64
	MinorFaults int64 `json:"minor_faults"`
}

// middle is the median of the seconds.
func middle(turns []turnResult) float64 {
	var s []float64
	for _, t := range turns {
		s = append(s, t.Seconds)
	}
	slices.Sort(s)
	if len(s) == 0 {
		return math.NaN()
	}
	return s[len(s)/2]
}

// reading says in a few words what a step found. A step without a reader of its own is told by its exit alone.
func (r *results) reading(s step) (string, error) {
	switch {
	case s.exit == 124:
		return "cut at its limit", nil
	case s.exit == 3:
		return "not here: " + lastLine(r.small[s.name+".log"]), nil
	case s.exit != 0 && !slices.Contains([]string{"conformance", "sanitize", "pools"}, s.name): // these tell more
		return "failed: " + lastLine(r.small[s.name+".log"]), nil
	}
	readers := map[string]func() (string, error){"probe": r.probe, "conformance": r.conformance, "snapshots": r.snapshots,
		"context": r.context, "rates": r.rates, "pools": r.pools, "tiles": r.tiles, "llama": r.llama,
		"pluggable": r.pluggable, "sanitize": r.sanitize, "older": r.older, "serve": r.serve}
	if read, ok := readers[s.name]; ok {
		return read()
	}
	return "", fmt.Errorf("no reader knows this step")
}

func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

func (r *results) decode(name string, into any) error {
	data, ok := r.small[name]
	if !ok {
		return fmt.Errorf("%s is missing", name)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func (r *results) probe() (string, error) {
	var h profile.Hardware
	if err := r.decode("probe.json", &h); err != nil {
		return "", err
	}
	if len(h.GPUs) == 0 {
		return "no card: " + h.Unknown["gpus"], nil
	}
	g := h.GPUs[0]
	said := fmt.Sprintf("%s, %d SMs, the first of %d", g.Name, g.SMCount, len(h.GPUs))
	data, ok := r.small["nvidia-smi.xml"]
	if !ok {
		return said, nil
	}
	smi, err := cuda.ParseSMI(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("nvidia-smi.xml: %w", err)
	}
	if len(smi.GPUs) != len(h.GPUs) || !strings.HasSuffix(smi.GPUs[0].Name, g.Name) {
		return "", fmt.Errorf("nvidia-smi tells %d cards, %+v; the probe %s", len(smi.GPUs), smi.GPUs, said)
	}
	return fmt.Sprintf("%s; nvidia-smi says the same, driver %s", said, smi.DriverVersion), nil
}

func (r *results) conformance() (string, error) { return r.tests("conformance.log") }

func (r *results) tests(name string) (string, error) {
	log := r.small[name]
	passed, failed := bytes.Count(log, []byte("--- PASS")), bytes.Count(log, []byte("--- FAIL"))
	skipped := bytes.Count(log, []byte("--- SKIP"))
	if passed+failed+skipped == 0 {
		return "", fmt.Errorf("%s holds no test", name)
	}
	return fmt.Sprintf("%d tests passed, %d failed, %d skipped", passed, failed, skipped), nil
}

// sanitize is the suites' outcome and what compute-sanitizer counted in them.
func (r *results) sanitize() (string, error) {
	said, err := r.tests("sanitize.log")
	errors, summaries := 0, 0
	for line := range strings.Lines(string(r.small["sanitize.log"])) {
		var n int
		if _, e := fmt.Sscanf(line, "========= ERROR SUMMARY: %d error", &n); e == nil {
			errors, summaries = errors+n, summaries+1
		}
	}
	if err == nil && summaries == 0 {
		err = fmt.Errorf("sanitize.log holds no summary of compute-sanitizer")
	}
	return fmt.Sprintf("%s; compute-sanitizer counts %d errors", said, errors), err
}

func (r *results) pluggable() (string, error) {
	var v pluggableResult
	if err := r.decode("pluggable.json", &v); err != nil {
		return "", err
	}
	if !v.Equal {
		return "", fmt.Errorf("pluggable.json: tokens or logits differ")
	}
	if ours, theirs := v.Allocators["vlmem"], v.Allocators["torch"]; len(ours.Turns) > 0 {
		return fmt.Sprintf("equal bit for bit; %.3f s and %d MiB, PyTorch's allocator %.3f s and %d MiB", middle(ours.Turns),
			ours.Pool.Peak>>20, middle(theirs.Turns), theirs.Reserved>>20), nil
	}
	return fmt.Sprintf("equal bit for bit; VlmemCache %.3f s, transformers' %.3f s", middle(v.Turns["vlmem"]),
		middle(v.Turns["transformers"])), nil
}

func (r *results) snapshots() (string, error) {
	requests, err := r.requests()
	if err != nil {
		return "", err
	}
	equal := 0
	for _, q := range requests {
		recorded, generated, err := q.compare()
		if err != nil {
			return "", err
		}
		if recorded == generated {
			equal++
		}
	}
	return fmt.Sprintf("%d requests recorded, %d generated to the byte", len(requests), equal), nil
}

// older is what was recorded with the machine's own transformers.
func (r *results) older() (string, error) {
	entries, err := readEntries(r.small["older.jsonl"])
	if err != nil || len(entries) < 2 {
		return "nothing recorded", err
	}
	e := entries[1]
	return fmt.Sprintf("transformers %s: %d MiB allocated at most in %s", entries[0].Transformers, e.Seen.Peak>>20,
		e.Name), nil
}

// serve says how far off vlmem's prediction of llama-server was, by the total that was seen.
func (r *results) serve() (string, error) {
	var runs []struct {
		Model    string
		Observed struct {
			Items []struct {
				Name      string
				Predicted float64 `json:"predicted_bytes"`
				Seen      float64 `json:"seen_bytes"`
			}
		}
	}
	if err := r.decode("serve.json", &runs); err != nil {
		return "", err
	}
	var said []string
	for _, run := range runs {
		for _, i := range run.Observed.Items {
			if i.Name == "total" && i.Predicted > 0 {
				said = append(said, fmt.Sprintf("%s %+.1f %%", run.Model, 100*(i.Seen/i.Predicted-1)))
			}
		}
	}
	return fmt.Sprintf("%d servers; total seen against predicted: %s", len(runs), strings.Join(said, ", ")), nil
}

func (r *results) context() (string, error) {
	var c contextResult
	if err := r.decode("context.json", &c); err != nil {
		return "", err
	}
	bytes, ok := c.outside()
	if !ok {
		return "no figure of the process", nil
	}
	return fmt.Sprintf("%d MiB beside the tensors after %d steps", bytes>>20, len(c.Memory)), nil
}

func (r *results) rates() (string, error) {
	var v ratesResult
	if err := r.decode("rates.json", &v); err != nil {
		return "", err
	}
	if len(v.Transfers) == 0 {
		return "", fmt.Errorf("rates.json holds no transfer")
	}
	t := v.Transfers[len(v.Transfers)-1]
	return fmt.Sprintf("%.1f GB/s to the device, %.1f back, %d bytes", float64(t.Bytes)/t.ToDevice/1e9,
		float64(t.Bytes)/t.ToHost/1e9, t.Bytes), nil
}

func (r *results) pools() (string, error) {
	var v struct{ Results []stream.BenchResult }
	if err := r.decode("pools.json", &v); err != nil {
		return "", err
	}
	var said []string
	for _, b := range v.Results {
		for _, c := range b.Costs {
			said = append(said, fmt.Sprintf("%s %.0f ns", c.Server, c.NsMedian))
		}
	}
	return strings.Join(said, ", "), nil
}

func (r *results) tiles() (string, error) {
	var v tilesResult
	if err := r.decode("tiles.json", &v); err != nil {
		return "", err
	}
	if v.Agreement == nil {
		return fmt.Sprintf("%d shapes, too few kernels to rank", len(v.Shapes)), nil
	}
	return fmt.Sprintf("%d shapes, rank correlation %.2f", len(v.Shapes), *v.Agreement), nil
}

// llamaRow is a line that speed.cpp prints among what llama.cpp logs.
type llamaRow struct{ name, layers, prompt, depth, prefill, decode string }

func (r *results) llamaRows() ([]llamaRow, error) {
	var list []llamaRow
	for line := range strings.Lines(string(r.small["llama.log"])) {
		if !strings.Contains(line, "-q8_0,") {
			continue
		}
		f, err := csv.NewReader(strings.NewReader(line)).Read()
		if err != nil || len(f) != 6 {
			return nil, fmt.Errorf("llama.log: %q: want name,layers,prompt,depth,prefill,decode", line)
		}
		list = append(list, llamaRow{f[0], f[1], f[2], f[3], f[4], f[5]})
	}
	return list, nil
}

func (r *results) llama() (string, error) {
	rows, err := r.llamaRows()
	if err != nil || len(rows) == 0 {
		return "no row", err
	}
	first := rows[0]
	return fmt.Sprintf("%d rows; %s at depth %s: prefill %s, decode %s tokens/s", len(rows), first.name, first.depth,
		first.prefill, first.decode), nil
}
