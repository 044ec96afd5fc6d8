package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
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
