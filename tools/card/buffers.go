package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
)

// load is a row of llama.cpp's with the buffers that its log told before, in MiB, by an estimate's names.
type load struct {
	row  llamaRow
	seen map[string]float64
}

// bufferLine is a line such as "sched_reserve:  CUDA_Host compute buffer size =    21.02 MiB".
var bufferLine = regexp.MustCompile(`(\S+) +(model|KV|compute|output) buffer size = +([0-9.]+) MiB`)

var bufferNames = map[string]string{"model": engine.Weights, "KV": engine.KVCache, "compute": engine.Compute,
	"output": engine.Output}

// buffers reads llama.log: weights are loaded once for the rows of a model, the rest for each.
func (r *results) buffers() ([]load, error) {
	rows, err := r.llamaRows()
	if err != nil {
		return nil, err
	}
	var list []load
	seen := map[string]float64{}
	for line := range bytes.Lines(r.small["llama.log"]) {
		if m := bufferLine.FindSubmatch(line); m != nil {
			where := "host"
			if string(m[1]) == "CUDA0" {
				where = "device"
			}
			size, err := strconv.ParseFloat(string(m[3]), 64)
			if err != nil {
				return nil, fmt.Errorf("llama.log: %q: %w", line, err)
			}
			seen[bufferNames[string(m[2])]+" "+where] = size
		} else if len(list) < len(rows) && strings.HasPrefix(string(line), rows[len(list)].name+",") {
			one := load{rows[len(list)], map[string]float64{}}
			for name, size := range seen {
				one.seen[name] = size
			}
			list = append(list, one)
		}
	}
	return list, nil
}

// speedRoom is the tokens that speed.cpp's context has beside the depth: a prompt of 512, 32 steps and 256.
const speedRoom = 512 + 32 + 256

// estimated is vlmem's estimate of a row on an H100.
func (w llamaRow) estimated() (*engine.Memory, error) {
	model, quant, _ := strings.Cut(w.name, "-q")
	depth, err := strconv.Atoi(w.depth)
	if err != nil {
		return nil, err
	}
	o := estimate.Request{Model: model, Engine: "llama.cpp", Hardware: "h100", ImageSize: "none", GPULayers: -1}
	o.Quant, o.Context, o.UBatch, o.FlashAttention = "q"+quant, depth+speedRoom, 512, "auto"
	o.Given = func(flag string) bool { return flag == "ctx" || flag == "ubatch" }
	m, err := o.Load()
	if err != nil {
		return nil, err
	}
	return o.Estimate(&m)
}
