package estimate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// What a llama-server of b11549 says with -lv 4, of a small decoder: its header, its settings and its buffers.
const serverLog = `srv init: starting
srv init: build_info: b11549-abcdef0
system_info: n_threads = 4 | CPU : AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | REPACK = 1 |
srv load_model: loading model 'small.gguf'
llama_model_loader: loaded meta data with 12 key-value pairs and 36 tensors from small.gguf (version GGUF V3 (latest))
llama_model_loader: - kv 0: general.architecture str = qwen3vl
llama_model_loader: - kv 1: general.name str = Small Example
llama_model_loader: - kv 2: qwen3vl.block_count u32 = 3
llama_model_loader: - kv 3: qwen3vl.context_length u32 = 262144
llama_model_loader: - kv 4: qwen3vl.embedding_length u32 = 512
llama_model_loader: - kv 5: qwen3vl.feed_forward_length u32 = 1024
llama_model_loader: - kv 6: qwen3vl.attention.head_count u32 = 8
llama_model_loader: - kv 7: qwen3vl.attention.head_count_kv u32 = 2
llama_model_loader: - kv 8: qwen3vl.attention.key_length u32 = 64
llama_model_loader: - kv 9: qwen3vl.attention.value_length u32 = 64
llama_model_loader: - kv 10: qwen3vl.attention.layer_norm_rms_epsilon f32 = 0.000001
llama_model_loader: - kv 11: qwen3vl.n_deepstack_layers u32 = 2
print_info: file type = Q8_0
print_info: n_embd = 512
print_info: n_swa = 0
print_info: n_vocab = 1000
load_tensors: loading model tensors (load_mode = mmap)
load_tensors: CPU_Mapped model buffer size = 7.83 MiB
llama_context: n_seq_max = 1
llama_context: n_ctx = 4096
llama_context: n_batch = 2048
llama_context: n_ubatch = 512
llama_context: flash_attn = auto
llama_context: kv_unified = false
llama_context: n_outputs_max = 1
llama_context: CPU output buffer size = 0.00 MiB
llama_kv_cache: CPU KV buffer size = 6.00 MiB
llama_kv_cache: size = 6.00 MiB ( 4096 cells, 3 layers, 1/1 seqs), K (f16): 3.00 MiB, V (f16): 3.00 MiB
sched_reserve: CPU compute buffer size = 23.02 MiB
`

// fromLog estimates what a log of these lines says was loaded.
func fromLog(t *testing.T, text string) (*engine.Memory, advise.Verification, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.log")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := Request{}
	r.Given = func(string) bool { return false }
	return r.FromLog(path)
}

// A server's log names the model, and a server keeps prompts: at most 8 GiB of them, none of which a log of loading
// shows. A program that is no server keeps none.
func TestServersLogIsWhole(t *testing.T) {
	mem, v, err := fromLog(t, serverLog)
	if err != nil {
		t.Fatal(err)
	}
	if mem.Model != "Small Example" || mem.Engine != "llama-server" || mem.Version != "b11549" ||
		mem.ContextTokens != 4096 {
		t.Errorf("%s on %s %s, %d tokens", mem.Model, mem.Engine, mem.Version, mem.ContextTokens)
	}
	prompts := func(i engine.Item) bool { return i.Name == engine.PromptCache }
	i := slices.IndexFunc(mem.Items, prompts)
	if i < 0 || mem.Items[i].Low != 0 || mem.Items[i].High != 8*units.GiB {
		t.Errorf("no prompt cache of at most 8 GiB in %+v", mem.Items)
	}
	held := 0
	for _, c := range v.Claims {
		if c.Low < 0 {
			t.Errorf("%s: from %.0f B on", c.What, c.Low)
		}
		if !c.Absent && c.Holds() {
			held++
		}
	}
	if held != 4 || v.Verdict() != nil {
		t.Errorf("%d buffers hold, %v: %+v", held, v.Verdict(), v.Claims)
	}
	mem, _, err = fromLog(t, strings.ReplaceAll(serverLog, "srv ", "main "))
	if err != nil || mem.Engine != "llama.cpp" || slices.ContainsFunc(mem.Items, prompts) {
		t.Errorf("%v: a program keeps prompts: %+v", err, mem)
	}
}

// A log without the lines of -lv 4 proves nothing.
func TestServersLogWithoutBuffers(t *testing.T) {
	var quiet []string
	for line := range strings.Lines(serverLog) {
		if strings.HasPrefix(line, "srv ") {
			quiet = append(quiet, line)
		}
	}
	_, _, err := fromLog(t, strings.Join(quiet, ""))
	if verdict.KindOf(err) != verdict.Unsure || !strings.Contains(err.Error(), "-lv 4") {
		t.Errorf("%v", err)
	}
}
