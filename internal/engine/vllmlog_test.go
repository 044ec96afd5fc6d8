package engine

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

func TestReadVLLMLog(t *testing.T) {
	items, err := ReadVLLMLog(strings.NewReader("INFO 11-28 01:00:00 [gpu_model_runner.py:5061] Model loading took " +
		"4.25 GiB memory " +
		`and 3.141593 seconds
INFO 11-28 01:00:09 [gpu_worker.py:441] Available KV cache memory: 12.34 GiB
INFO 11-28 01:00:09 [kv_cache_utils.py:1316] GPU KV cache size: 115,520 tokens
(Worker_TP1 pid=9) INFO 11-28 01:00:09 [gpu_worker.py:441] Available KV cache memory: 12.30 GiB
INFO 11-28 01:00:20 [gpu_model_runner.py:5200] Graph capturing finished in 11 secs, took 0.55 GiB
`))
	if err != nil || len(items) != 2 {
		t.Fatalf("%+v, %v", items, err)
	}
	for i, want := range []struct {
		name string
		gib  float64
	}{{KVCache, 12.30}, {"CUDA graphs", 0.55}} {
		it := items[i]
		if off := float64(it.Bytes)/float64(units.GiB) - want.gib; it.Name != want.name || off > 1e-6 || off < -1e-6 ||
			it.Low >= it.Bytes || it.High <= it.Bytes {
			t.Errorf("%+v, want %+v", it, want)
		}
	}
	if _, err := ReadVLLMLog(strings.NewReader("INFO nothing\n")); err == nil {
		t.Error("a log without sizes was read")
	}
}
