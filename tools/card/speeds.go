package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/speed"
)

// paced is a rate that llama.cpp reached, beside what is predicted for that machine, in tokens a second.
type paced struct {
	what      string
	seen      float64
	predicted speed.Range
}

// paces predicts every row of llama.cpp's on the machine that probe.json describes: decoding at the row's depth, and,
// with an empty cache, the prompt; how fast a prompt is behind a filled cache is not predicted.
func (r *results) paces() ([]paced, error) {
	rows, err := r.llamaRows()
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	data, ok := r.small["probe.json"]
	if !ok {
		return nil, fmt.Errorf("probe.json is missing")
	}
	folder, err := os.MkdirTemp("", "card")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	machine := filepath.Join(folder, "probe.json")
	if err := os.WriteFile(machine, data, 0o600); err != nil {
		return nil, err
	}
	var list []paced
	for _, row := range rows {
		two, err := row.paces(machine)
		if err != nil {
			return nil, fmt.Errorf("%s at depth %s: %w", row.name, row.depth, err)
		}
		list = append(list, two...)
	}
	return list, nil
}

func (w llamaRow) paces(machine string) ([]paced, error) {
	model, quant, _ := strings.Cut(w.name, "-q")
	depth, err1 := strconv.Atoi(w.depth)
	prefill, err2 := strconv.ParseFloat(w.prefill, 64)
	decode, err3 := strconv.ParseFloat(w.decode, 64)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			return nil, err
		}
	}
	o := estimate.Request{Model: model, Engine: "llama.cpp", Hardware: machine, ImageSize: "none", GPULayers: -1}
	o.Quant, o.Context, o.FlashAttention = "q"+quant, max(512, depth), "auto"
	o.Given = func(flag string) bool { return flag == "ctx" }
	m, err := o.Load()
	if err != nil {
		return nil, err
	}
	mem, err := o.Estimate(&m)
	if err != nil {
		return nil, err
	}
	f, err := o.Forecast(&m, mem, nil)
	if err != nil || f == nil {
		return nil, err
	}
	if depth > 0 {
		return []paced{{w.name + " decode at " + w.depth, decode, f.DecodeFull}}, nil
	}
	return []paced{{w.name + " decode at 0", decode, f.Decode}, {w.name + " prefill", prefill, f.Prefill}}, nil
}
