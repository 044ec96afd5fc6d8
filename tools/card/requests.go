package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// entry is a line of runs.jsonl: the versions first, then every recording.
type entry struct {
	Name         string    `json:"name"`
	Torch        string    `json:"torch"`
	Transformers string    `json:"transformers"`
	Card         string    `json:"card"`
	Device       string    `json:"device"`
	Error        string    `json:"error"`
	Settings     *settings `json:"settings"`
	Seen         seen      `json:"seen"`
}

// seen is what torch says after a request; of the other recordings, which say it in words, nothing is read.
type seen struct {
	Peak  int64 `json:"allocated_bytes.all.peak"`
	Begin struct {
		Blocks int `json:"active.all.current"` // that were live when the recording began: weights and inputs
	} `json:"begin"`
	Pace *pace `json:"pace"`
}

// pace is PyTorch's speed, unrecorded.
type pace struct {
	First  float64 `json:"first_token_s"` // with the image and the prompt
	Decode float64 `json:"decode_tokens_per_s"`
	Prompt int     `json:"prompt_tokens"`
}

func (s *seen) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] != '{' {
		return nil
	}
	type plain seen
	return json.Unmarshal(data, (*plain)(s))
}

// settings are what snapshots.py ran, as it names them.
type settings struct {
	Model     string `json:"model"`
	Image     string `json:"image"`
	Images    int    `json:"images"`
	Frames    int    `json:"frames"`
	Text      int    `json:"text"`
	Steps     int    `json:"steps"`
	Batch     int    `json:"batch"`
	DType     string `json:"dtype"`
	Attention string `json:"attention"`
	Cache     string `json:"cache"`
	Experts   int    `json:"experts"`
	Layers    int    `json:"layers"`
	Depth     int    `json:"depth"`
	Deepstack string `json:"deepstack"`
}

// request is one recorded request to a model.
type request struct {
	entry
	cpu      bool
	recorded *trace.Trace // from the first allocation of the request itself
}

func readEntries(data []byte) ([]entry, error) {
	var list []entry
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("runs.jsonl:%d: %w", n, err)
		}
		list = append(list, e)
	}
	return list, lines.Err()
}

// requests lists the recordings of requests that came back whole, in the order they were made.
func (r *results) requests() ([]request, error) {
	entries, err := readEntries(r.small["runs.jsonl"])
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "card")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	var list []request
	for _, e := range entries {
		if e.Settings == nil || e.Error != "" {
			continue
		}
		for _, suffix := range []string{".pickle", ".txt.gz"} {
			data, ok := r.shots[e.Name+suffix]
			if !ok {
				continue
			}
			q, err := readRequest(e, filepath.Join(folder, e.Name+suffix), data)
			if err != nil {
				return nil, err
			}
			q.cpu = entries[0].Device == "cpu"
			list = append(list, q)
		}
	}
	return list, nil
}

func readRequest(e entry, file string, data []byte) (request, error) {
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return request{}, err
	}
	traces, err := trace.Open(file)
	if err != nil {
		return request{}, err
	}
	return request{entry: e, recorded: traces[0]}, nil
}

// model is the built-in model with as few layers as were recorded.
func (s *settings) model() (profile.Model, error) {
	m, err := profiles.Model("qwen3-vl-" + s.Model)
	if err != nil {
		return profile.Model{}, err
	}
	m.Text.Layers, m.Vision.Depth, m.Vision.DeepstackLayers = s.Layers, s.Depth, nil
	if m.Text.MoE != nil {
		m.Text.MoE.Experts = s.Experts
	}
	m.Preprocess.MinPixels, m.Preprocess.VideoMinPixels = 1, 1 // recordings give sides as resized
	for _, level := range strings.Split(s.Deepstack, ",") {
		n, err := strconv.Atoi(level)
		if err != nil {
			return profile.Model{}, fmt.Errorf("deepstack %q: %w", s.Deepstack, err)
		}
		m.Vision.DeepstackLayers = append(m.Vision.DeepstackLayers, n)
	}
	return m, nil
}

// generated is the sequence that vlmem makes for the same request.
func (q request) generated() (*trace.Trace, error) {
	s := q.Settings
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	o := workload.Options{Images: s.Images, Frames: s.Frames, PromptTokens: s.Text, DecodeTokens: s.Steps, Batch: s.Batch,
		DType: profile.DType(s.DType), Attention: workload.CuDNN, Cache: workload.Cache(s.Cache), Device: workload.CUDA,
		Hopper: true}
	if q.cpu {
		o.Attention, o.Device, o.Hopper, o.Threads = workload.Flash, workload.CPU, false, 1
	}
	if s.Attention == "eager" {
		o.Attention = workload.Eager
	}
	if _, err := fmt.Sscanf(s.Image, "%dx%d", &o.Width, &o.Height); err != nil {
		return nil, fmt.Errorf("image %q: %w", s.Image, err)
	}
	return workload.Request(m, o)
}

// course is what a sequence does: how many allocations, their bytes together, and the most live at once.
type course struct {
	allocations       int
	bytes, peak, live int64
}

// courseOf leaves out what was live before the request: the first blocks of a snapshot, or all before its mark, and the
// workspace of cuBLAS, which a warmed-up process holds already.
func courseOf(t *trace.Trace, before int, marked bool) course {
	var c course
	own := make([]int64, t.Slots) // bytes of a block that the request made
	begun := !marked
	for _, e := range t.Events {
		switch e.Op {
		case trace.OpMark:
			begun = begun || t.Tags[e.Tag] == "prepare"
		case trace.OpAlloc:
			own[e.Slot] = 0
			if before--; before >= 0 || !begun || strings.HasSuffix(t.Tags[e.Tag], ".cublas_workspace") {
				continue
			}
			own[e.Slot] = e.Size
			c.allocations, c.bytes, c.live = c.allocations+1, c.bytes+e.Size, c.live+e.Size
			c.peak = max(c.peak, c.live)
		case trace.OpFree:
			c.live -= own[e.Slot]
		}
	}
	c.live = 0 // what the caller keeps of the answer: no matter of the model
	return c
}

// withoutScratch drops what a CPU's matrix product takes and gives back at once, and in 16 bits all that a convolution
// takes beside its result, the last it allocates: oneDNN's, which says nothing of the model.
func withoutScratch(t *trace.Trace, narrow bool) *trace.Trace {
	kept := &trace.Trace{Tags: t.Tags, Slots: t.Slots}
	dropped := map[uint32]bool{}
	for i, e := range t.Events {
		switch {
		case e.Op == trace.OpFree && dropped[e.Slot]:
			delete(dropped, e.Slot)
			continue
		case e.Op == trace.OpAlloc && i+1 < len(t.Events) && scratch(t, e, t.Events[i+1], narrow):
			dropped[e.Slot] = true
			continue
		}
		kept.Events = append(kept.Events, e)
	}
	return kept
}

// scratch says whether an allocation is an operation's own, by what follows it.
func scratch(t *trace.Trace, e, next trace.Event, narrow bool) bool {
	switch op := t.Tags[e.Tag]; op {
	case "mm", "addmm", "bmm":
		return next.Op == trace.OpFree && next.Slot == e.Slot
	case "mkldnn_convolution":
		return narrow && next.Op == trace.OpAlloc && t.Tags[next.Tag] == op
	}
	return false
}

// compare gives both courses of a request.
func (q request) compare() (recorded, generated course, err error) {
	g, err := q.generated()
	if err != nil {
		return course{}, course{}, fmt.Errorf("%s: %w", q.Name, err)
	}
	t, blocks := q.recorded, q.Seen.Begin.Blocks
	if q.cpu {
		t, blocks = withoutScratch(t, q.Settings.DType != "fp32"), 0
	}
	return courseOf(t, blocks, q.cpu), courseOf(g, 0, true), nil
}

// keep writes the recording as a trace of vlmem's own, gzipped.
func (q request) keep(folder string) (err error) {
	file, err := os.Create(filepath.Join(folder, q.Name+".txt.gz"))
	if err != nil {
		return err
	}
	z := gzip.NewWriter(file)
	return errors.Join(q.recorded.Write(z), z.Close(), file.Close())
}
