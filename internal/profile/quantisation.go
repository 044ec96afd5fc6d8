package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Quantisation is how the matrices of a checkpoint are stored, as its quantization_config says. One matrix of N rows
// and K columns, n = N·K elements, takes
//
//	bitsandbytes 4 bits      n/2 + n/64·4 + 64; with double quantisation n/2 + n/64 + ⌈n/64/256⌉·4 + 1,024 + 4 + 64
//	bitsandbytes 8 bits      n + 4N
//	FP8 in blocks b×c        n + ⌈N/b⌉·⌈K/c⌉·4; without blocks n + 4
//	GPTQ, groups of g        n·bits/8 + n/g·(2 + bits/8) + 4K
//	AWQ, AutoRound           n·bits/8 + n/g·(2 + bits/8)
//	compressed-tensors       n·bits/8 + n/g·2 + 16, and n/g·bits/8 more with zero points; rows and blocks share 2 bytes
//	MXFP4, NVFP4             n/2 + n/32, n/2 + n/16 + 8
//	MLX, groups of g         n·bits/8 + n/g·4, embeddings and head too
//	torchao, quanto, HQQ     in quantisation_read.go
//
// as allocated by the libraries themselves (transformers 5.24 with bitsandbytes, compressed-tensors, torchao and
// optimum-quanto; AWQ, MXFP4, NVFP4, MLX and Quark are counted from their formats). What is no matrix, and what is left
// out, stays in the model's type. Schemes may differ by module: rules come first, in order.
type Quantisation struct {
	Method string // quant_method: awq, bitsandbytes, fp8 …
	Name   string // what a person calls it: nf4, w4a16
	Known  bool   // the method's bytes are known; otherwise a matrix lies between 4 bits and 16
	// only the decoder's blocks are converted, whatever is left out beside them
	DecoderOnly bool
	// the experts of a mixture, which are one parameter since transformers 5, are not converted
	PlainExperts bool
	// only the experts are converted
	OnlyExperts bool
	// keys and values were calibrated for 8 bits: by compressed-tensors' kv_cache_scheme, ModelOpt's kv_cache_quant_algo
	CacheBits int

	rest       storage // of modules that no rule names
	named      bool    // none but those that a rule names are converted
	embeddings bool    // of tokens are converted too
	rules      []rule
	left       names
}

// rule gives the modules that it names a storage of their own; nil: they stay as they are.
type rule struct {
	names
	storage *storage
}

// names is a list of modules: whole parts of a dotted name, or expressions.
type names struct {
	parts      []string
	patterns   []*regexp.Regexp
	unreadable []string // expressions that this language cannot read
}

// namesOf reads a list. "re:" begins an expression that is matched from the start of a name; a star stands for
// anything, and the rest of the name begins at a dot.
func namesOf(list ...string) names {
	var n names
	for _, name := range list {
		expression, is := strings.CutPrefix(name, "re:")
		switch {
		case is:
			expression = "^(?:" + expression + ")"
		case strings.Contains(name, "*"):
			expression = `^(?:` + strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, ".*") + `)(?:\..*)?$`
		default:
			n.parts = append(n.parts, name)
			continue
		}
		n.expression(expression, name)
	}
	return n
}

// expression adds a regular expression, which is called name where it cannot be read.
func (n *names) expression(expression, name string) {
	if p, err := regexp.Compile(expression); err == nil {
		n.patterns = append(n.patterns, p)
	} else {
		n.unreadable = append(n.unreadable, name)
	}
}

// add joins another list.
func (n *names) add(more names) {
	n.parts = append(n.parts, more.parts...)
	n.patterns, n.unreadable = append(n.patterns, more.patterns...), append(n.unreadable, more.unreadable...)
}

// holds reports whether a module is named.
func (n *names) holds(x Module) bool {
	if len(n.parts) == 0 && len(n.patterns) == 0 {
		return false
	}
	return slices.ContainsFunc(x.spellings(), n.match)
}

func (n *names) match(name string) bool {
	for _, part := range n.parts {
		if strings.Contains("."+name+".", "."+strings.Trim(part, ".")+".") {
			return true
		}
	}
	return slices.ContainsFunc(n.patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) })
}

// together are modules that servers load as one, and experts by the names of files that hold them one by one: lists
// made by other programs spell them so.
var together = map[string][]string{
	"q_proj": {"qkv_proj"}, "k_proj": {"qkv_proj"}, "v_proj": {"qkv_proj"},
	"gate_proj": {"gate_up_proj"}, "up_proj": {"gate_up_proj"},
	"in_proj_qkv": {"in_proj_qkvz"}, "in_proj_z": {"in_proj_qkvz"}, "in_proj_b": {"in_proj_ba"}, "in_proj_a": {"in_proj_ba"},
	"experts.gate_up_proj": {"experts.0.gate_proj", "experts.0.up_proj", "experts.0.gate_up_proj", "experts.0.w1"},
	"experts.down_proj":    {"experts.0.down_proj", "experts.0.w2"},
}

// spellings are the names that a module goes by: its own, those from before transformers 4.52, which spelt a prefix
// otherwise, and those of servers.
func (x Module) spellings() []string {
	list := []string{x.Name}
	for leaf, others := range together {
		stem, is := strings.CutSuffix(x.Name, "."+leaf)
		for _, other := range others {
			if is {
				list = append(list, stem+"."+other)
			}
		}
	}
	for _, name := range list {
		rest := strings.TrimPrefix(name, "model.")
		list = append(list, rest)
		if layers, is := strings.CutPrefix(rest, "language_model."); is {
			list = append(list, "model."+layers, layers, "language_model.model."+layers)
		}
	}
	return list
}

// storageOf is how a module is stored, nil where it stays as it is.
func (q *Quantisation) storageOf(x Module) *storage {
	matrix := x.Kind == LinearModule || x.Kind == Experts || x.Kind == Head || x.Kind == Embedding
	if q == nil || !matrix || q.PlainExperts && x.Kind == Experts || q.left.holds(x) {
		return nil
	}
	for i := range q.rules {
		if q.rules[i].holds(x) {
			return q.rules[i].storage
		}
	}
	if x.Kind == Embedding && (!q.embeddings || x.Vision()) || q.named || q.OnlyExperts && x.Kind != Experts ||
		q.DecoderOnly && x.Part != LayersPart {
		return nil
	}
	return &q.rest
}

// Converts reports whether a module is stored quantised.
func (q *Quantisation) Converts(x Module) bool { return q.storageOf(x) != nil }

// Bytes is what a module takes, what is not converted in elements of so many bytes.
func (q *Quantisation) Bytes(x Module, element int64) int64 {
	s := q.storageOf(x)
	if s == nil || !q.Known {
		return x.Elements() * element
	}
	return x.Count*s.bytes(float64(x.Out), float64(x.In)) + x.Bias*element
}

// Bounds is the least and the most that a module may take: alike where the method's bytes are known and measured.
func (q *Quantisation) Bounds(x Module, element int64) (least, most int64) {
	b := q.Bytes(x, element)
	switch s := q.storageOf(x); {
	case s == nil:
		return b, b
	case !q.Known:
		return x.Matrix() / 2, x.Elements() * element
	case s.loose:
		return b * 99 / 100, b * 101 / 100
	}
	return b, b
}

// Warning is the sentence that a person must know of a scheme whose bytes are not known; "" where they are.
func (q *Quantisation) Warning() string {
	if q == nil {
		return ""
	}
	unreadable := slices.Clone(q.left.unreadable)
	for _, r := range q.rules {
		unreadable = append(unreadable, r.unreadable...)
	}
	switch {
	case !q.Known:
		return fmt.Sprintf("quant_method %q is not known: its matrices are counted in 16 bits, and may take as few as 4",
			q.Method)
	case len(unreadable) > 0:
		return fmt.Sprintf("modules named by %s could not be told: they are counted as if they were not named",
			strings.Join(unreadable, ", "))
	case q.Method == mlx:
		return "the checkpoint is MLX's, which mlx-lm and mlx-vlm load: its bytes are counted, other programs refuse it"
	}
	return ""
}
