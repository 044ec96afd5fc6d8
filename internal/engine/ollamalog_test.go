package engine

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// The shape of what ollama 0.33 prints: its own lines, and between them those of the server that it runs, which have no
// prefix. The card was too full for the tower, so that a second server got it on the host.
const ollamaLog = `
time=2026-10-03T10:00:00.000Z source=llama_server.go:433 msg="starting llama-server" cmd="llama-server -c 4096"
load_tensors: offloaded 29/29 layers to GPU
load_tensors:        CUDA0 model buffer size =  1743.77 MiB
load_tensors:   CPU_Mapped model buffer size =   315.30 MiB
llama_kv_cache:      CUDA0 KV buffer size =   448.00 MiB
load_hparams: model size:         781.42 MiB
reserve_compute_meta:      CUDA0 compute buffer size =   322.49 MiB
time=2026-10-03T10:00:02.000Z source=llama_server.go:500 msg="retrying"
time=2026-10-03T10:00:02.100Z source=llama_server.go:433 msg="starting llama-server" cmd="… --no-mmproj-offload"
load_tensors:        CUDA0 model buffer size =  1743.77 MiB
load_tensors:   CPU_Mapped model buffer size =   315.30 MiB
llama_context:  CUDA_Host  output buffer size =     0.58 MiB
llama_kv_cache:      CUDA0 KV buffer size =   448.00 MiB
sched_reserve:      CUDA0 compute buffer size =    68.00 MiB
reserve_compute_meta:        CPU compute buffer size =   322.49 MiB
srv        update:  - cache state: 1 prompts, 69.031 MiB (limits: 8192.000 MiB)
srv        update:  - cache state: 0 prompts, 0.000 MiB (limits: 8192.000 MiB)
slot print_timing: id  0 | task 0 | prompt eval time =      50.00 ms /   600 tokens
slot print_timing: id  0 | task 0 |        eval time =     200.00 ms /    32 tokens
slot process_mtmd: id  0 | task 33 | encoding mtmd batch from idx = 33, n_chunks = 1
slot print_timing: id  0 | task 33 | prompt eval time =     450.00 ms /  1200 tokens
slot print_timing: id  0 | task 33 |        eval time =     100.00 ms /    16 tokens
[GIN] 2026/10/03 - 10:00:09 | 200 | 7.1s | 127.0.0.1 | POST "/api/chat"
`

func TestReadOllamaLog(t *testing.T) {
	seen, err := ReadOllamaLog(strings.NewReader(ollamaLog))
	if err != nil {
		t.Fatal(err)
	}
	begun := ollamaLog + `msg="starting llama-server"` + "\n" // a later one that had not loaded anything yet
	if again, err := ReadOllamaLog(strings.NewReader(begun)); err != nil || !reflect.DeepEqual(again, seen) {
		t.Errorf("with a server that only began: %v, %v", again, err)
	}
	got := map[string]float64{}
	for _, i := range seen {
		got[i.Name+" "+i.Where] += float64(i.Bytes) / (1 << 20)
	}
	want := map[string]float64{"weights device": 1743.77, "weights host": 315.3, "output host": 0.58,
		"KV cache device": 448, "compute device": 68, "vision host": 322.49, "prompt cache host": 69.031}
	for name, mib := range want {
		if math.Abs(got[name]-mib) > 0.001 {
			t.Errorf("%s: %.2f MiB, want %.2f", name, got[name], mib)
		}
	}
	if len(got) != len(want) {
		t.Errorf("items of another load: %v", got)
	}
	a := ollama.ReadRates([]byte(ollamaLog)) // the second prompt's time has an image's encoding in it
	if a != (Answered{Prompts: 1, PromptTokens: 600, PromptMS: 50, Replies: 2, ReplyTokens: 48, ReplyMS: 300}) {
		t.Errorf("answered %+v", a)
	}
}

func TestReadOllamaLogRefuses(t *testing.T) {
	for _, log := range []string{"", "[GIN] 2026/10/03 - 10:00:09 | 200 | 1ms | 127.0.0.1 | GET /\n",
		"msg=\"starting llama-server\"\n"} {
		if items, err := ReadOllamaLog(strings.NewReader(log)); !errors.Is(err, ErrNoLoad) {
			t.Errorf("%d items, %v", len(items), err)
		}
	}
}

// Programs without a server print their rates once, and what is no number is none.
func TestReadLlamaRates(t *testing.T) {
	a := ReadLlamaRates([]byte(`
llama_perf_context_print: prompt eval time =     100.00 ms /   200 tokens
llama_perf_context_print:        eval time =    1000.00 ms /    20 runs   (   50.00 ms per token)
llama_perf_context_print:       total time =    1100.00 ms /   220 tokens
x: eval time = 1.2.3 ms / 4 tokens
x: eval time = 5.0 ms / 0 tokens
x: eval time = 5.0 ms / 320000000000000000000 tokens
`))
	if a != (Answered{Prompts: 1, PromptTokens: 200, PromptMS: 100, Replies: 1, ReplyTokens: 20, ReplyMS: 1000}) {
		t.Errorf("answered %+v", a)
	}
}

// What neither a Modelfile nor a variable of the server sets is refused; what one of them sets is not.
func TestOllamaTakesWhatItCanBeGiven(t *testing.T) {
	e, err := Lookup("engine", "ollama", (*Engine).Estimates)
	if err != nil {
		t.Fatal(err)
	}
	for flag, taken := range map[string]bool{"override-tensor": false, "no-kv-offload": false, "split-mode": false,
		"tensor-split": false, "n-cpu-ffn": false, "no-repack": false, "mlock": false, "outputs": false, "main-gpu": false,
		"ngl": true, "batch": true, "kv-type": true, "no-mmap": true, "parallel": true, "flash-attention": true} {
		if err := e.HasNoEffect(flag); (err == nil) != taken {
			t.Errorf("--%s: %v", flag, err)
		}
	}
}
