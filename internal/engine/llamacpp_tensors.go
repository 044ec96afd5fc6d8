package engine

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Cards that share out every tensor (--split-mode tensor) are one device to llama.cpp's scheduler (v0.5.0's
// ggml-backend-meta.cpp): of what it splits each card holds its share, of all else a copy, and its compute buffer is as
// large as that of one card alone. What lies on the host is computed there.

// splitTensors are those that the cards share out (llama_meta_device_get_split_state): a tied table, read as the head,
// is not among them.
var splitTensors = regexp.MustCompile(`^(output\.weight|blk\.\d+\.(attn_(q|k|v|qkv)\.(weight|bias)|` +
	`attn_(output|gate)\.weight|ssm_(dt\.bias|a|(alpha|beta|ba|conv1d|out)\.weight)|` +
	`ffn_(up|gate|gate_up|down)(_exps)?\.weight))$`)

// unsplit are the architectures of ours that llama.cpp does not share out so (llm_arch_supports_sm_tensor).
var unsplit = []string{"deepseek2"}

// firstTensorSplit is the first measured build that has it.
const firstTensorSplit = 9294

// unevenShare is how far a card's part lies from its share at most where rows and blocks do not go round evenly.
const unevenShare = 0.02

// checkTensorSplit refuses what llama.cpp does, and what is not followed here.
func (l *LlamaOptions) checkTensorSplit(m *profile.Model, flash string) error {
	v := m.Text.Variant
	switch {
	case flash == "off":
		return errors.New("split mode tensor requires flash attention: leave it auto or on")
	case v != nil && slices.Contains(unsplit, v.Architecture):
		return fmt.Errorf("llama.cpp splits no tensors of %s over cards: --split-mode layer works", v.Architecture)
	case l.Build != "" && buildNumber(l.Build) > 0 && buildNumber(l.Build) < firstTensorSplit:
		return fmt.Errorf("build %s: split mode tensor is not known of builds before b%d", l.Build, firstTensorSplit)
	case l.Fit != nil:
		return errors.New("split mode tensor: llama.cpp fits no context with it, name one with --ctx")
	case l.Draft != nil:
		return errors.New("split mode tensor: a draft model beside it is not modelled")
	case !l.likeCUDA():
		return fmt.Errorf("split mode tensor: %s's buffers with it are not known, those of CUDA are", l.backend())
	}
	return nil
}

// estimateTensorSplit is the estimate of one card that holds everything, shared out.
func estimateTensorSplit(m *profile.Model, o Options) (*Memory, error) {
	if err := o.Llama.checkTensorSplit(m, o.FlashAttention); err != nil {
		return nil, err
	}
	one, cards := o, max(o.Llama.Cards, 1)
	one.FlashAttention = "on"
	one.Llama.SplitMode, one.Llama.Cards, one.Llama.Shares, one.Llama.NoOps = "none", 1, nil, true
	mem, err := estimateLlama(m, one)
	if err != nil || cards == 1 {
		return mem, err
	}
	r, err := one.recipe()
	if err != nil {
		return nil, err
	}
	var split, whole units.Bytes
	for _, t := range PlaceLlama(asLlama(m), r, one).Tensors {
		switch {
		case t.Card == OnHostMemory:
		case splitTensors.MatchString(t.Name):
			split += t.Bytes
		default:
			whole += t.Bytes
		}
	}
	items := mem.Items
	mem.Items = nil
	for _, it := range items {
		mem.sharedOut(it, o.Llama.portions(cards), float64(split)/float64(max(split+whole, 1)))
	}
	return mem, nil
}

// portions are the cards' shares, which add up to 1.
func (l *LlamaOptions) portions(cards int) []float64 {
	list, sum := make([]float64, cards), 0.0
	for i := range list {
		switch {
		case !l.named(cards):
			list[i] = 1
		case i < len(l.Shares):
			list[i] = l.Shares[i]
		}
		sum += list[i]
	}
	for i := range list {
		list[i] /= sum
	}
	return list
}

// sharedOut adds an item of the one card as those of several; split is the part of its weights that they share out.
func (mem *Memory) sharedOut(it Item, portions []float64, split float64) {
	p := Placement{Cards: len(portions)}
	tower := it.Name == VisionWeights || it.Name == Vision
	if it.Where == "host" || tower {
		if tower && it.Where != "host" {
			it.Where = p.where(0)
		}
		mem.Items = append(mem.Items, it)
		return
	}
	for i, portion := range portions {
		one := it
		one.Where = p.where(i)
		part := 1.0
		switch it.Name {
		case Weights:
			part = split*portion + 1 - split
			one.Why += "; shared out over the cards, norms, routers and a tied head whole on each"
		case KVCache:
			part = portion
			one.Why += "; heads shared out over the cards"
		case Compute:
			one.High += one.Bytes / 4 // what is added up between the cards lies beside it
			one.Source = Assumed
			one.Why += "; as large on every card as on one alone, and what they add up between them"
		}
		if part != 1 {
			one.Bytes, one.Source = scaled(it.Bytes, part), Assumed
			one.Low, one.High = scaled(it.Low, part*(1-unevenShare)), scaled(it.High, part*(1+unevenShare))
		}
		mem.Items = append(mem.Items, one)
	}
}
