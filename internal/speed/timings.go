package speed

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// Timing is one line of an engine's own figures. What the file does not say is zero.
type Timing struct {
	Engine          string
	Model           string
	Type            string  // of the weights, as the engine writes it
	Bytes, Params   float64 // of the weights
	Layers          int     // on the card, -1: not said
	Prompt, Depth   float64 // tokens read, tokens in the cache before them
	UBatch          float64
	Decode, Prefill float64 // tokens per second
}

// ErrNotTimings says that a file is none of those that ReadTimings knows.
var ErrNotTimings = errors.New("want llama-bench's JSON, JSON lines or CSV, a reply of llama-server or Ollama, or " +
	"the result file of vllm bench serve")

// ReadTimings reads an engine's own figures: llama-bench -o json, jsonl or csv; a reply of llama-server with its
// timings; one of Ollama's; the result file of vllm bench serve. Errors name the file and what is missing.
func ReadTimings(name string, data []byte) ([]Timing, error) {
	documents, err := jsonDocuments(data)
	if err != nil {
		if documents, err = csvDocuments(data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, ErrNotTimings)
		}
	}
	var out []Timing
	for _, d := range documents {
		if t, ok := timingOf(d); ok {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no rate in it: %w", name, ErrNotTimings)
	}
	return out, nil
}

// document is one object of a file: the union of the fields that engines write.
type document struct {
	// llama-bench
	ModelType  string  `json:"model_type"`
	ModelFile  string  `json:"model_filename"`
	ModelSize  float64 `json:"model_size"`
	ModelCount float64 `json:"model_n_params"`
	Layers     *int    `json:"n_gpu_layers"`
	NPrompt    float64 `json:"n_prompt"`
	NGen       float64 `json:"n_gen"`
	NDepth     float64 `json:"n_depth"`
	NUBatch    float64 `json:"n_ubatch"`
	AvgTS      float64 `json:"avg_ts"`
	Backends   string  `json:"backends"`
	// llama-server
	Timings *struct {
		PromptN    float64 `json:"prompt_n"`
		PromptPS   float64 `json:"prompt_per_second"`
		PredictedN float64 `json:"predicted_n"`
		PredictPS  float64 `json:"predicted_per_second"`
	} `json:"timings"`
	Model string `json:"model"`
	// Ollama: nanoseconds
	PromptCount float64 `json:"prompt_eval_count"`
	PromptTime  float64 `json:"prompt_eval_duration"`
	EvalCount   float64 `json:"eval_count"`
	EvalTime    float64 `json:"eval_duration"`
	// vllm bench serve
	ModelID     string  `json:"model_id"`
	MedianTPOT  float64 `json:"median_tpot_ms"`
	Concurrency float64 `json:"max_concurrency"`
}

// jsonDocuments reads one object, an array of them, or one after another.
func jsonDocuments(data []byte) ([]document, error) {
	var list []document
	if err := json.Unmarshal(data, &list); err == nil {
		return list, nil
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	for {
		var d document
		switch err := dec.Decode(&d); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, err
		}
		list = append(list, d)
	}
}

// csvDocuments reads llama-bench's CSV.
func csvDocuments(data []byte) ([]document, error) {
	lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil || len(lines) < 2 {
		return nil, ErrNotTimings
	}
	column := map[string]int{}
	for i, n := range lines[0] {
		column[n] = i
	}
	for _, n := range []string{"model_size", "model_n_params", "n_prompt", "n_gen", "avg_ts"} {
		if _, ok := column[n]; !ok {
			return nil, ErrNotTimings
		}
	}
	var out []document
	for _, l := range lines[1:] {
		text := func(n string) string {
			if i, ok := column[n]; ok {
				return l[i]
			}
			return ""
		}
		value := func(n string) float64 {
			v, _ := strconv.ParseFloat(text(n), 64)
			return v
		}
		d := document{ModelType: text("model_type"), ModelFile: text("model_filename"), ModelSize: value("model_size"),
			ModelCount: value("model_n_params"), NPrompt: value("n_prompt"), NGen: value("n_gen"), NDepth: value("n_depth"),
			NUBatch: value("n_ubatch"), AvgTS: value("avg_ts"), Backends: text("backends")}
		if layers, err := strconv.Atoi(text("n_gpu_layers")); err == nil {
			d.Layers = &layers
		}
		out = append(out, d)
	}
	return out, nil
}

// timingOf reads an object; false where it holds no rate of one request.
func timingOf(d document) (Timing, bool) {
	t := Timing{Layers: -1, UBatch: 512}
	switch {
	case d.AvgTS > 0 && d.ModelSize > 0 && (d.NGen == 0) != (d.NPrompt == 0):
		t = Timing{"llama.cpp", d.ModelFile, typeIn(d.ModelType), d.ModelSize, d.ModelCount, -1, d.NPrompt, d.NDepth,
			d.NUBatch, 0, 0}
		if d.Layers != nil {
			t.Layers = *d.Layers
		}
		if d.Backends == "CPU" || d.Backends == "BLAS" { // built without a card's backend, it still writes 99 layers
			t.Layers = 0
		}
		if experts.MatchString(d.ModelType) {
			t.Bytes, t.Params = 0, 0 // how many of them a token reads it does not say
		}
		if d.NGen > 0 {
			t.Decode, t.Depth = d.AvgTS, d.NDepth+d.NGen/2
		} else {
			t.Prefill = d.AvgTS
		}
	case d.Timings != nil:
		t.Engine, t.Model, t.Prompt = "llama.cpp", d.Model, d.Timings.PromptN
		t.Decode, t.Depth = d.Timings.PredictPS, d.Timings.PromptN+d.Timings.PredictedN/2
		if d.Timings.PromptN >= 64 {
			t.Prefill = d.Timings.PromptPS
		}
	case d.EvalCount > 0 && d.EvalTime > 0:
		t.Engine, t.Model, t.Prompt = "ollama", d.Model, d.PromptCount
		t.Decode, t.Depth = d.EvalCount/d.EvalTime*1e9, d.PromptCount+d.EvalCount/2
		if d.PromptCount >= 64 && d.PromptTime > 0 {
			t.Prefill = d.PromptCount / d.PromptTime * 1e9
		}
	case d.MedianTPOT > 0 && d.Concurrency == 1:
		t.Engine, t.Model, t.Decode = "vllm", d.ModelID, 1000/d.MedianTPOT
	}
	return t, t.Decode > 0 || t.Prefill > 0
}

var experts = regexp.MustCompile(`(?i)\bA\d+(\.\d+)?B\b|moe|x\d+B`)

// bits are those of a weight where a file's size is not given, by type (llama.cpp quantize --help, 8B models).
var bits = map[string]float64{"q4_k": 4.9, "q4_0": 4.6, "q5": 5.7, "q6_k": 6.6, "q8_0": 8.5, "f16": 16, "q2-3_k": 3.7,
	"iq4": 4.4, "iq1-3": 2.7, "fp4": 4.5, "int4": 4.6, "int8": 8.3, "other": 4.9}

// BitsOf is the bits of a weight of a group of types, scales and the larger types of some tensors included.
func BitsOf(group string) float64 {
	if b, ok := bits[group]; ok {
		return b
	}
	return bits["other"]
}

// typeIn finds the type in llama-bench's name of a model, as in "qwen3 4B Q4_K - Medium".
func typeIn(model string) string {
	for _, word := range strings.Fields(strings.ToLower(model)) {
		if TypeOf(word) != "other" {
			return word
		}
	}
	return ""
}

// Observe turns a timing into an observation of a machine. A file that does not say how large its model is
// needs m and the type of its weights in t; m may be nil for llama-bench's, which says.
func Observe(t Timing, h profile.Hardware, m *profile.Model) (Observation, error) {
	w, layers, weights := Work{}, 0.0, 0.0
	onCard := 0.0
	if len(h.GPUs) > 0 {
		onCard = 1
	}
	switch {
	case t.Bytes > 0 && t.Params > 0:
		layers = math.Round(20 * math.Pow(t.Params/1e9, 0.32))
		w = Work{KVBytes: 4096 * layers, ScoreOps: 4 * 4096 * layers}
		weights = t.Bytes
	case m != nil:
		p := m.Parameters()
		layers, weights = float64(m.Text.Layers), float64(p.Embed+p.LMHead+p.Layers)*BitsOf(TypeOf(t.Type))/8
	default:
		return Observation{}, fmt.Errorf("the figures of %s do not say how large %q is: name the model", t.Engine, t.Model)
	}
	if n := float64(t.Layers); t.Layers >= 0 && onCard > 0 && n < layers {
		onCard = n / (layers + 1)
	}
	if t.Bytes > 0 && t.Params > 0 {
		w.CardBytes, w.HostBytes = weights*onCard, weights*(1-onCard)
		w.CardOps, w.HostOps = 2*t.Params*onCard, 2*t.Params*(1-onCard)
		w.CardLayers, w.HostLayers = layers*onCard, layers*(1-onCard)
	} else {
		w = workOf(m, Lay{CardBytes: weights * onCard, HostBytes: weights * (1 - onCard), HostLayers: layers * (1 - onCard),
			KVBytesPerToken: float64(m.KVBytesPerToken(profile.FP16))})
	}
	w.Prompt, w.Depth, w.UBatch = max(1, t.Prompt), t.Depth, max(1, t.UBatch)
	q, err := on(h, w, Setting{Engine: t.Engine, Type: TypeOf(t.Type)})
	return Observation{q, t.Decode, t.Prefill}, err
}
