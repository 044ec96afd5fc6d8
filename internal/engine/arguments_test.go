package engine

import (
	"strings"
	"testing"
)

func TestReadArguments(t *testing.T) {
	in, err := readLlamaArguments(strings.Fields("-m a.gguf --mmproj=b.gguf -c 8192 -ub 256 -ctk q8_0 -ctv q8_0 --no-mmap --port 80 -np 2 -kvu"))
	if err != nil || in.Model != "a.gguf" || in.Projector != "b.gguf" || in.Context != 8192 || in.UBatch != 256 ||
		in.KVType != "q8_0" || in.Llama.LoadMode != "none" || in.Sequences != 2 || !in.Unified {
		t.Errorf("%+v, %v", in, err)
	}
	for _, bad := range []string{"-c", "-c many", "-m"} {
		if _, err := readLlamaArguments(strings.Fields(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
