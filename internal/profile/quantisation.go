package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
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
//	AWQ, groups of g         n·bits/8 + n/g·(2 + bits/8)
//	compressed-tensors       n·bits/8 + n/g·2 + 16, and n/g·bits/8 more with zero points
//	MXFP4, NVFP4             n/2 + n/32, n/2 + n/16 + 8
//	torchao, quanto, HQQ     below
//
// as allocated by the libraries themselves (transformers 5.24 with bitsandbytes, compressed-tensors, torchao and
// optimum-quanto; AWQ, MXFP4 and NVFP4 are counted from their formats). What is no matrix, and what is left out, stays
// in the model's type.
type Quantisation struct {
	Method string // quant_method: awq, bitsandbytes, fp8 …
	Name   string // what a person calls it: nf4, w4a16
	Known  bool   // the method's bytes are known; otherwise a matrix lies between 4 bits and 16
	Left   []string
	// only the decoder's blocks are converted, whatever is left out beside them
	DecoderOnly bool
	// the experts of a mixture, which are one parameter since transformers 5, are not converted
	PlainExperts bool
	// only the experts are converted
	OnlyExperts bool
	Counted     bool // counted from the format, not allocated by its library

	bits       float64
	group      int // columns that share a scale, 0: a whole row
	scale      float64
	zero       float64 // bytes of a group's zero point
	block      [2]int
	column     float64 // bytes a column
	row        float64 // bytes a row
	matrix     float64 // bytes a matrix
	doubled    bool    // scales are quantised too
	patterns   []*regexp.Regexp
	unreadable []string // patterns that are no regular expression of this language
}

// quantisation reads quantization_config, nil where there is none.
func quantisation(k keys) *Quantisation {
	name := "quantization_config"
	if raw, _ := k.find(name); raw == nil {
		name = "compression_config"
	}
	raw, _ := k.find(name)
	if raw == nil {
		return nil
	}
	return readQuantisation(k.object(name))
}

// mostBits is the widest element that a scheme keeps: more would be no quantisation.
const mostBits = 16

// readQuantisation dispatches on quant_method.
func readQuantisation(c keys) *Quantisation {
	q := &Quantisation{Method: strings.ToLower(c.text("quant_method")), Known: true}
	if q.Method == "" {
		switch {
		case c.flag("load_in_4bit"), c.flag("load_in_8bit"):
			q.Method = "bitsandbytes"
		case c.text("quant_algo") != "" || c.given["quantization"] != nil:
			q.Method = "modelopt"
		}
	}
	q.Name = q.Method
	q.leave(c.strings("modules_to_not_convert"))
	q.leave(c.strings("llm_int8_skip_modules"))
	switch q.Method {
	case "bitsandbytes":
		q.bitsandbytes(c)
	case "fp8", "fbgemm_fp8":
		q.fp8(c)
	case "awq", "gptq", "auto-round", "intel/auto-round", "autoround", "gptqmodel":
		q.grouped(c)
	case "compressed-tensors":
		q.compressed(c)
	case "mxfp4":
		q.setBlocks("mxfp4")
		q.OnlyExperts = true
	case "modelopt":
		q.modelopt(c)
	case "torchao", "quanto", "hqq", "eetq":
		q.libraries(c)
	default:
		q.Known = false
	}
	if q.bits < 0 || q.bits > mostBits {
		c.fail("bits", json.RawMessage(fmt.Sprint(int64(q.bits))), fmt.Sprintf("1 to %d", mostBits))
	}
	q.leave([]string{"lm_head"})
	if q.Method == "compressed-tensors" || q.Method == "modelopt" {
		q.Left = q.Left[:len(q.Left)-1] // these name the head themselves where it is left out
	}
	return q
}

// leave adds modules that stay as they are. "re:" begins a regular expression.
func (q *Quantisation) leave(names []string) {
	for _, name := range names {
		q.Left = append(q.Left, name)
		expression, is := strings.CutPrefix(name, "re:")
		if !is {
			if !strings.ContainsAny(name, "*") {
				continue
			}
			expression = strings.ReplaceAll(regexp.QuoteMeta(name), `\*`, ".*") // ModelOpt's wildcards
		}
		if p, err := regexp.Compile("^(?:" + expression + ")"); err == nil {
			q.patterns = append(q.patterns, p)
		} else {
			q.unreadable = append(q.unreadable, name)
		}
	}
}

func (q *Quantisation) bitsandbytes(c keys) {
	q.PlainExperts = true
	if c.flag("load_in_8bit") {
		q.Name, q.bits, q.row = "int8", 8, 4
		return
	}
	q.Name = "nf4"
	if kind := c.text("bnb_4bit_quant_type"); kind != "" {
		q.Name = kind
	}
	q.bits, q.group, q.scale, q.matrix = 4, 64, 4, 64
	q.doubled = c.flag("bnb_4bit_use_double_quant")
}

func (q *Quantisation) fp8(c keys) {
	q.bits = 8
	sides := c.numbers("weight_block_size")
	switch {
	case q.Method == "fbgemm_fp8":
		q.row = 4
	case len(sides) == 2 && sides[0] > 0 && sides[1] > 0:
		q.block = [2]int{sides[0], sides[1]}
	default:
		q.matrix = 4
	}
}

// grouped is AWQ, GPTQ and AutoRound, which writes either.
func (q *Quantisation) grouped(c keys) {
	q.DecoderOnly = true
	for _, name := range []string{"bits", "w_bit"} {
		if raw, given := c.find(name); raw != nil && given && c.optional(name) < 1 {
			c.fail(name, raw, fmt.Sprintf("1 to %d", mostBits))
		}
	}
	q.setGroups(c.or("bits", c.or("w_bit", 4)), c)
	q.zero = q.bits / 8
	if q.Method == "awq" {
		q.Counted = true
	} else if strings.HasPrefix(q.Method, "gptq") {
		q.column = 4 // g_idx
	}
}

func (q *Quantisation) setGroups(bits int, c keys) {
	q.bits, q.scale, q.group = float64(bits), 2, 128
	for _, name := range []string{"group_size", "q_group_size"} {
		if raw, _ := c.find(name); raw != nil {
			q.group = max(0, c.optional(name)) // -1: a whole row
		}
	}
}

// setBlocks is the micro-scaled formats: elements of 4 bits or 8 that share a scale of 8.
func (q *Quantisation) setBlocks(kind string) {
	q.Counted = true
	switch kind {
	case "mxfp4":
		q.bits, q.group, q.scale = 4, 32, 1
	case "mxfp8":
		q.bits, q.group, q.scale = 8, 32, 1
	case "nvfp4":
		q.bits, q.group, q.scale, q.matrix = 4, 16, 1, 8
	}
	q.Name = kind
}

// compressed is compressed-tensors, the format of llm-compressor: groups of modules with a scheme each, of which the
// first is taken, and a list of modules left out.
func (q *Quantisation) compressed(c keys) {
	q.leave(c.strings("ignore"))
	groups := c.object("config_groups")
	names := slices.Sorted(maps.Keys(groups.given))
	if len(names) == 0 {
		q.Known = false
		return
	}
	w := groups.object(names[0]).object("weights")
	format := c.text("format")
	bits, kind, strategy := w.or("num_bits", 8), w.text("type"), w.text("strategy")
	q.bits, q.Name = float64(bits), fmt.Sprintf("w%d", bits)
	switch {
	case strings.HasPrefix(format, "nvfp4"), kind == "float" && bits == 4 && w.optional("group_size") == 16:
		q.setBlocks("nvfp4")
		return
	case strings.HasPrefix(format, "mxfp4"), kind == "float" && bits == 4:
		q.setBlocks("mxfp4")
		return
	case strings.Contains(format, "sparse"), strings.Contains(format, "marlin-24"):
		q.Known = false
		return
	}
	switch size := w.optional("group_size"); {
	case strategy == "tensor":
		q.matrix = 2
	case strategy == "block" || len(w.numbers("block_structure")) == 2:
		q.block = [2]int{128, 128}
		if sides := w.numbers("block_structure"); len(sides) == 2 && sides[0] > 0 && sides[1] > 0 {
			q.block = [2]int(sides)
		}
	case size > 0:
		q.group, q.scale = size, 2
	default:
		q.row = 2
	}
	if format == "pack-quantized" {
		q.matrix += 16 // the shape, two int64
	}
	if raw, _ := w.find("symmetric"); raw != nil && !w.flag("symmetric") {
		q.zero = q.bits / 8
	}
}

// modelopt is NVIDIA's ModelOpt, in config.json or in hf_quant_config.json beside it.
func (q *Quantisation) modelopt(c keys) {
	if c.given["quantization"] != nil {
		c = c.object("quantization")
	}
	q.leave(c.strings("exclude_modules"))
	q.leave(c.strings("ignore"))
	switch algorithm := strings.ToUpper(c.text("quant_algo")); algorithm {
	case "FP8":
		q.bits, q.matrix, q.Counted, q.Name = 8, 8, true, "fp8"
	case "FP8_PER_CHANNEL_PER_TOKEN", "FP8_PB_WO", "W8A8_SQ_PER_CHANNEL":
		q.bits, q.row, q.Counted, q.Name = 8, 4, true, "fp8"
	case "NVFP4", "NVFP4_AWQ", "W4A16_NVFP4":
		q.setBlocks("nvfp4")
	case "MXFP8":
		q.setBlocks("mxfp8")
	case "W4A16_AWQ", "W4A8_AWQ":
		q.setGroups(4, c)
		q.Counted, q.Name = true, "w4a16"
	default:
		q.Known = false
	}
}

// libraries are what transformers hands to others whole.
func (q *Quantisation) libraries(c keys) {
	q.PlainExperts = true
	switch q.Method {
	case "eetq":
		q.bits, q.row = 8, 2
	case "quanto":
		q.Name = "quanto " + c.text("weights")
		switch c.text("weights") {
		case "int8", "float8", "":
			q.bits, q.row = 8, 2
		case "int4":
			q.bits, q.group, q.scale, q.zero = 4, 128, 2, 2
		case "int2":
			q.bits, q.group, q.scale, q.zero = 2, 128, 2, 2
		default:
			q.Known = false
		}
	case "hqq":
		inner := c.object("quant_config").object("weight_quant_params")
		q.bits, q.group, q.scale, q.zero, q.Counted = float64(inner.or("nbits", 4)), inner.or("group_size", 64), 2, 2, true
	case "torchao":
		q.torchao(c)
	}
}

func (q *Quantisation) torchao(c keys) {
	kind := c.text("quant_type")
	if kind == "" {
		kind = c.object("quant_type").object("default").text("_type")
	}
	kind = strings.ToLower(strings.ReplaceAll(kind, "_", ""))
	q.Name = "torchao " + kind
	switch {
	case strings.Contains(kind, "intx"):
		q.bits, q.group, q.scale, q.zero = 8, 128, 2, 1
	case strings.Contains(kind, "int4"):
		q.bits, q.group, q.scale, q.zero = 4, 128, 2, 2
	case strings.Contains(kind, "int8"):
		q.bits, q.row = 8, 5
	case strings.Contains(kind, "float8"):
		q.bits, q.row = 8, 4
	default:
		q.Known = false
	}
}

// named are the schemes that have a name of their own, as people ask for them when they load or pick a checkpoint:
// bitsandbytes' defaults, and the shapes that published checkpoints have.
var named = map[string]string{
	"nf4":  `{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}`,
	"fp4":  `{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}`,
	"int4": `{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}`,
	"nf4-double": `{"quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "nf4",
 "bnb_4bit_use_double_quant": true}`,
	"int8":               `{"quant_method": "bitsandbytes", "load_in_8bit": true}`,
	"fp8":                `{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["model.visual", "visual"]}`,
	"awq":                `{"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true}`,
	"gptq":               `{"quant_method": "gptq", "bits": 4, "group_size": 128}`,
	"mxfp4":              `{"quant_method": "mxfp4"}`,
	"w4a16":              w4a16,
	"compressed-tensors": w4a16,
	"w8a8": `{"quant_method": "compressed-tensors", "format": "int-quantized", "ignore": ["lm_head", "re:.*visual.*"],
 "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": true}}}}`,
	"nvfp4": `{"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head", "*visual*"]}`,
}

const w4a16 = `{"quant_method": "compressed-tensors", "format": "pack-quantized",
 "ignore": ["lm_head", "re:.*visual.*"], "config_groups": {"group_0": {
	"weights": {"num_bits": 4, "group_size": 128, "type": "int", "symmetric": true}}}}`

// QuantisationNames are the schemes that QuantisationNamed knows.
func QuantisationNames() []string { return slices.Sorted(maps.Keys(named)) }

// QuantisationNamed is a scheme by the name that people give it.
func QuantisationNamed(name string) (*Quantisation, bool) {
	text, known := named[strings.ToLower(name)]
	if !known {
		return nil, false
	}
	c := keys{reader: &reader{name: name, data: []byte(text)}}
	if err := json.Unmarshal(c.data, &c.given); err != nil {
		panic(err) // of the table above
	}
	q := readQuantisation(c)
	q.Name = strings.ToLower(name)
	if c.err != nil {
		panic(c.err)
	}
	return q, true
}

// DecodeModelOpt reads hf_quant_config.json, which ModelOpt writes beside config.json.
func DecodeModelOpt(name string, data []byte) (*Quantisation, error) {
	c := keys{reader: &reader{name: name, data: data}}
	if err := json.Unmarshal(data, &c.given); err != nil {
		return nil, jsonError(name, data, err)
	}
	q := readQuantisation(c)
	return q, c.err
}

// Converts reports whether a module is stored quantised.
func (q *Quantisation) Converts(x Module) bool {
	switch {
	case x.Kind != LinearModule && x.Kind != Experts && x.Kind != Head,
		q.OnlyExperts && x.Kind != Experts, q.PlainExperts && x.Kind == Experts, q.DecoderOnly && x.Part != LayersPart:
		return false
	}
	return !q.leaves(x.Name)
}

// leaves reports whether a module is left out: by an expression from its start, or by whole parts of its name. A list
// made before transformers 4.52 spells a prefix otherwise: the name is tried without its outer parts too.
func (q *Quantisation) leaves(name string) bool {
	if short := strings.Replace(name, ".language_model.", ".", 1); short != name && q.leaves(short) {
		return true
	}
	for _, p := range q.patterns {
		if p.MatchString(name) {
			return true
		}
	}
	for _, left := range q.Left {
		if strings.Contains("."+name+".", "."+strings.Trim(left, ".")+".") {
			return true
		}
	}
	return false
}

// Bytes is what a module takes, what is not converted in elements of so many bytes.
func (q *Quantisation) Bytes(x Module, element int64) int64 {
	if q == nil || !q.Known || !q.Converts(x) {
		return x.Elements() * element
	}
	n, k := float64(x.Out), float64(x.In)
	one := n*k*q.bits/8 + q.row*n + q.column*k + q.matrix
	switch {
	case q.doubled:
		blocks := math.Ceil(n * k / 64)
		one += blocks + math.Ceil(blocks/256)*4 + 1024 + 4
	case q.Method == "bitsandbytes" && q.group > 0: // blocks run over the ends of rows
		one += math.Ceil(n*k/float64(q.group)) * q.scale
	case q.scale > 0:
		group := float64(q.group)
		if q.group == 0 {
			group = k
		}
		one += n * math.Ceil(k/group) * (q.scale + q.zero)
	case q.block[0] > 0:
		one += math.Ceil(n/float64(q.block[0])) * math.Ceil(k/float64(q.block[1])) * 4
	}
	return x.Count*int64(math.Ceil(one)) + x.Bias*element
}

// Bounds is the least and the most that a module may take: alike where the method's bytes are known and measured.
func (q *Quantisation) Bounds(x Module, element int64) (least, most int64) {
	b := q.Bytes(x, element)
	switch {
	case q == nil || !q.Converts(x):
		return b, b
	case !q.Known:
		return x.Matrix() / 2, x.Elements() * element
	case q.Counted:
		return b * 99 / 100, b * 101 / 100
	}
	return b, b
}

// Warning is the sentence that a person must know of a scheme whose bytes are not known; "" where they are.
func (q *Quantisation) Warning() string {
	switch {
	case q == nil:
		return ""
	case !q.Known:
		return fmt.Sprintf("quant_method %q is not known: its matrices are counted in 16 bits, and may take as few as 4",
			q.Method)
	case len(q.unreadable) > 0:
		return fmt.Sprintf("modules left out by %s could not be told: they are counted as quantised",
			strings.Join(q.unreadable, ", "))
	}
	return ""
}
