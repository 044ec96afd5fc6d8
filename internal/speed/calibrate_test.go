package speed_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/profiles"
)

const (
	benchJSON = `[{"model_filename":"m.gguf","model_type":"qwen3 4B Q4_K - Medium","model_size":2491000000,
 "model_n_params":4022468096,"n_gpu_layers":99,"n_ubatch":512,"n_prompt":512,"n_gen":0,"n_depth":0,"avg_ts":900.5,"backends":"CUDA"},
{"model_filename":"m.gguf","model_type":"qwen3 4B Q4_K - Medium","model_size":2491000000,"model_n_params":4022468096,
 "n_gpu_layers":99,"n_ubatch":512,"n_prompt":0,"n_gen":128,"n_depth":4096,"avg_ts":40.25,"backends":"CUDA"}]`
	benchCSV = "build_commit,backends,model_filename,model_type,model_size,model_n_params,n_gpu_layers,n_ubatch," +
		"n_prompt,n_gen,n_depth,avg_ts\n" +
		"\"abc\",\"CPU\",\"m.gguf\",\"llama 8B Q8_0\",\"8532934656\",\"8030261248\",\"99\",\"512\",\"0\",\"128\",\"0\"," +
		"\"4.1\"\n"
	serverReply = `{"model":"q","timings":{"prompt_n":300,"prompt_per_second":80.5,"predicted_n":100,` +
		`"predicted_per_second":9.5}}`
	ollamaReply = `{"model":"qwen3-vl:4b","prompt_eval_count":26,"prompt_eval_duration":342546000,"eval_count":298,` +
		`"eval_duration":4710000000}`
	vllmResult = `{"model_id":"Qwen/Qwen3-VL-4B","max_concurrency":1,"median_tpot_ms":12.5,"median_ttft_ms":80}`
)

func TestEnginesOwnFigures(t *testing.T) {
	for name, tt := range map[string]struct {
		text            string
		n               int
		decode, prefill float64
		depth           float64
		kind            string
		layers          int
	}{
		"llama-bench JSON": {benchJSON, 2, 40.25, 0, 4160, "q4_k", 99},
		"llama-bench lines": {strings.NewReplacer("[", "", "]", "", "},", "}\n").Replace(benchJSON), 2, 40.25, 0, 4160,
			"q4_k", 99},
		"llama-bench CSV": {benchCSV, 1, 4.1, 0, 64, "q8_0", 0},
		"llama-server":    {serverReply, 1, 9.5, 80.5, 350, "", -1},
		"Ollama":          {ollamaReply, 1, 298 / 4.71, 0, 175, "", -1},
		"vLLM":            {vllmResult, 1, 80, 0, 0, "", -1},
	} {
		got, err := speed.ReadTimings("f", []byte(tt.text))
		if err != nil || len(got) != tt.n {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		last := got[len(got)-1]
		if math.Abs(last.Decode-tt.decode) > 1e-9 || last.Prefill != tt.prefill || last.Depth != tt.depth ||
			last.Layers != tt.layers {
			t.Errorf("%s is read as %+v", name, last)
		}
		if tt.kind != "" && speed.TypeOf(last.Type) != tt.kind {
			t.Errorf("%s: type %q", name, last.Type)
		}
	}
	for _, bad := range []string{"", "{", "a,b\n1,2\n", `{"error":"no"}`, "[]"} {
		if _, err := speed.ReadTimings("f", []byte(bad)); !errors.Is(err, speed.ErrNotTimings) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzReadTimings(f *testing.F) {
	for _, s := range []string{benchJSON, benchCSV, serverReply, ollamaReply, vllmResult} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := speed.ReadTimings("f", data)
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%d timings and %v", len(got), err)
		}
	})
}

// One run moves the median of another model towards what it showed, never past it, and narrows the interval; a run on
// the card says nothing of the host.
func TestOneRunMovesTheOthers(t *testing.T) {
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	h := hardware(t, "gtx-1080")
	timings, err := speed.ReadTimings("f", []byte(benchJSON))
	if err != nil {
		t.Fatal(err)
	}
	o, err := speed.Observe(timings[1], h, nil)
	if err != nil {
		t.Fatal(err)
	}
	other := o.Query
	other.Work.CardBytes *= 2
	before := c.Predict(other).Decode
	k, err := c.Calibrate([]speed.Observation{o})
	if err != nil {
		t.Fatal(err)
	}
	after := c.PredictOn(other, k)
	shown := o.Decode / c.Predict(o.Query).Decode.Median
	moved := after.Decode.Median / before.Median
	if (shown-1)*(moved-1) <= 0 || math.Abs(math.Log(moved)) > math.Abs(math.Log(shown)) {
		t.Errorf("the run showed a factor of %.3f, the median moved by %.3f", shown, moved)
	}
	if w, was := after.Decode.High/after.Decode.Low, before.High/before.Low; w >= was || after.Observed != 1 {
		t.Errorf("the interval spans a factor of %.2f, before %.2f; %d observed", w, was, after.Observed)
	}
	host := speed.Query{Host: laptopHost(t), Work: speed.Work{HostBytes: 2e9, HostOps: 8e9, HostLayers: 36},
		Setting: speed.Setting{Engine: "llama.cpp", Backend: "cpu", Type: "q4_k"}}
	if got := c.PredictOn(host, k); got.Decode != c.Predict(host).Decode {
		t.Error("a run on the card moved the host's")
	}
	o.Decode *= 100
	if _, err := c.Calibrate([]speed.Observation{o}); err == nil {
		t.Error("a hundred times the rate is taken for this machine's")
	}
}

func laptopHost(t *testing.T) *speed.Host {
	host, _ := speed.HostOf(hardware(t, "i5-10210u"))
	return host
}

func TestRepliesNeedAModel(t *testing.T) {
	timings, err := speed.ReadTimings("f", []byte(serverReply))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := speed.Observe(timings[0], hardware(t, "gtx-1080"), nil); err == nil {
		t.Error("a reply without a model is taken")
	}
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	timings[0].Type = "q4_k_m"
	o, err := speed.Observe(timings[0], hardware(t, "gtx-1080"), &m)
	if err != nil || o.Query.Work.CardBytes < 2e9 || o.Query.Work.CardBytes > 3e9 {
		t.Errorf("%+v, %v", o.Query.Work, err)
	}
}
