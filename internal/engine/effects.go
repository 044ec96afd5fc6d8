package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// The flags of estimate that not every engine has, by the forms of engines that share them.
var (
	llamaFlags = []string{"mmproj", "mmproj-quant", "batch", "ubatch", "parallel", "kv-unified", "outputs", "ngl", "kv-type",
		"flash-attention", "no-warmup", "build", "backend", "cards", "tensor-split", "split-mode", "override-tensor",
		"cpu-moe", "n-cpu-moe", "n-cpu-ffn", "no-repack", "load-mode", "no-mmap", "mlock", "no-kv-offload", "no-op-offload",
		"no-mmproj-offload", "swa-full", "image-max-tokens", "embeddings"}
	ollamaFlags      = slices.DeleteFunc(slices.Clone(llamaFlags), func(f string) bool { return f == "kv-unified" })
	llamaServerFlags = append([]string{"cache-ram"}, llamaFlags...)
	sglangFlags      = []string{"batch", "kv-type", "utilization", "tensor-parallel", "eager", "parallel"}
	vllmFlags        = append([]string{"images", "image-limit", "offline"}, sglangFlags...)
	torchFlags       = []string{"parallel", "kv-type", "flash-attention", "prompt", "images", "frames"}
)

// HasNoEffect is the error for a flag of estimate that an engine does not have, nil for one that changes its memory: a
// flag that no engine lists concerns them all.
func (e *Engine) HasNoEffect(flag string) error {
	var owners []string
	for _, other := range All() {
		if slices.Contains(other.Effects, flag) {
			owners = append(owners, other.Name)
		}
	}
	if len(owners) == 0 || slices.Contains(e.Effects, flag) {
		return nil
	}
	return fmt.Errorf("--%s has no effect on %s, only on %s", flag, e.Name, strings.Join(owners, ", "))
}

// Fits refuses a context beyond the positions that a model has, YaRN's included: vLLM does not start with it, and where
// an engine does it answers badly. llama.cpp reserves it, with a warning.
func (e *Engine) Fits(m *profile.Model, o Options) error {
	context := max(o.Context, o.PromptTokens)
	if e.Pooled {
		return nil
	}
	if context <= m.Text.MaxPositions || m.Text.MaxPositions == 0 {
		return nil
	}
	return fmt.Errorf("a context of %d tokens: %s has %d positions; more need YaRN in its config.json "+
		"(rope_scaling with a factor)", context, m.Name, m.Text.MaxPositions)
}
