package engine

import (
	"errors"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// What llama.cpp v0.5.0 printed for qwen3-vl-2b in q8_0 on a CPU: 2,048 cells in q8_0, 512 tokens at once, and the
// tower.
const llamaLog = `load_tensors:   CPU_Mapped model buffer size =  1743.77 MiB
llama_context:        CPU  output buffer size =     0.58 MiB
llama_kv_cache:        CPU KV buffer size =   119.00 MiB
llama_kv_cache: size =  119.00 MiB (  2048 cells,  28 layers,  1/1 seqs), K (q8_0):   59.50 MiB, V (q8_0):   59.50 MiB
sched_reserve:        CPU compute buffer size =   300.00 MiB
sched_reserve:        CPU compute buffer size =   316.75 MiB
load_hparams: model size:         781.42 MiB
reserve_compute_meta:        CPU compute buffer size =   322.49 MiB
reserve_compute_meta: graph splits = 1, nodes = 766
`

func TestReadLlamaLog(t *testing.T) {
	seen, err := ReadLlamaLog(strings.NewReader(llamaLog))
	if err != nil {
		t.Fatal(err)
	}
	mem := estimate(t, "llama.cpp", model(t, "qwen3-vl-2b"), Options{Quant: "q8_0", Context: 2048, KVType: "q8_0",
		FlashAttention: "on", Device: "cpu"})
	if len(seen) != len(mem.Items) {
		t.Fatalf("%d items in the log, %d estimated: %+v", len(seen), len(mem.Items), seen)
	}
	for _, s := range seen {
		if got := mem.on(s.Where, s.Name); got < s.Low || got > s.High {
			t.Errorf("%s: estimated %d, the log says %d to %d", s.Name, got, s.Low, s.High)
		}
	}
}

func TestReadLlamaLogPlaces(t *testing.T) {
	seen, err := ReadLlamaLog(strings.NewReader(`
load_tensors:        CUDA0 model buffer size =  5231.69 MiB
load_tensors:   CPU_Mapped model buffer size =   166.92 MiB
sched_reserve:      CUDA0 compute buffer size =   352.77 MiB
sched_reserve:  CUDA_Host compute buffer size =    40.02 MiB
alloc_compute_meta:      CUDA0 compute buffer size =   372.08 MiB
`))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]units.Bytes{}
	for _, s := range seen {
		sums[s.Where] += s.Bytes
	}
	if device, host := float64(sums["device"])/float64(units.MiB),
		float64(sums["host"])/float64(units.MiB); int(100*device+0.5) != 595654 || int(100*host+0.5) != 20694 {
		t.Errorf("device %.2f MiB, host %.2f MiB", device, host)
	}
}

func TestReadLlamaLogRefuses(t *testing.T) {
	if _, err := ReadLlamaLog(strings.NewReader("INFO: vLLM started\n")); !errors.Is(err, ErrNoBuffers) {
		t.Errorf("got %v", err)
	}
	if _, err := ReadLlamaLog(strings.NewReader("a: CPU KV buffer size = 1.2.3 MiB")); err == nil ||
		errors.Is(err, ErrNoBuffers) {
		t.Errorf("got %v", err)
	}
}
