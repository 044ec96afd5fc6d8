package engine

import (
	"reflect"
	"strings"
	"testing"
)

func TestReadCommand(t *testing.T) {
	for _, c := range []struct {
		engine     *Engine
		args       string
		want       []Stated
		unreckoned []string
		err        string
	}{
		{&llamaServer, "-m a-Q8_0.gguf --mmproj=b-F16.gguf -c 8192 -ub 256 -ctk q8_0 --no-mmap --port 80 -np 2 -kvu -ngl " +
			"-7 -cram 0",
			[]Stated{{"quant", "q8_0"}, {"mmproj-quant", "f16"}, {"ctx", "8192"}, {"ubatch", "256"}, {"kv-type", "q8_0,f16"},
				{"load-mode", "none"}, {"parallel", "2"}, {"kv-unified", "true"}, {"ngl", "-1"}, {"cache-ram", "0"}}, nil, ""},
		{&llamaCPP, "-ctv q4_0 -ctk q8_0 -fa --no-repack -lm none", []Stated{{"kv-type", "q8_0,q4_0"},
			{"flash-attention", "on"},
			{"no-repack", "true"}, {"load-mode", "none"}}, nil, ""},
		{&llamaServer, "--lora x -hf Qwen/Qwen3-VL-2B-Instruct-GGUF:Q8_0",
			[]Stated{{"model", "Qwen/Qwen3-VL-2B-Instruct-GGUF"}, {"quant", "q8_0"}}, []string{"lora"}, ""},
		{&vllm, "serve Qwen/Qwen3-VL-2B-Instruct --max_model_len 4096 --enforce-eager --port 80",
			[]Stated{{"model", "Qwen/Qwen3-VL-2B-Instruct"}, {"ctx", "4096"}, {"eager", "true"}}, nil, ""},
		{&llamaServer, "-c", nil, nil, "-c is without its value"},
		{&llamaServer, "-m --no-mmap", nil, nil, "-m is without its value"},
	} {
		r, err := c.engine.ReadCommand(strings.Fields(c.args))
		if (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %v, want %q", c.args, err, c.err)
		}
		if !reflect.DeepEqual(r.Stated, c.want) || !reflect.DeepEqual(r.Unreckoned, c.unreckoned) {
			t.Errorf("%s: %v and %v, want %v and %v", c.args, r.Stated, r.Unreckoned, c.want, c.unreckoned)
		}
	}
}
