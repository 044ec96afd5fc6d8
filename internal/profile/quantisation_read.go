package profile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// mlx is what checkpoints are called that name no method and have MLX's keys.
const mlx = "mlx"

// quantisation reads quantization_config, nil where there is none. It stands outermost, or in the part that it is
// about.
func quantisation(places ...keys) *Quantisation {
	for _, k := range places {
		for _, name := range []string{"quantization_config", "compression_config", "quantization"} {
			if raw := k.given[name]; raw != nil && string(raw) != "null" {
				return readQuantisation(k.object(name))
			}
		}
	}
	return nil
}

// readQuantisation dispatches on quant_method.
func readQuantisation(c keys) *Quantisation {
	q := &Quantisation{Method: quantMethod(c), Known: true}
	q.Name = q.Method
	q.left = namesOf(slices.Concat(c.strings("modules_to_not_convert"), c.strings("llm_int8_skip_modules"))...)
	head := true // stays as it is, whatever is named
	switch q.Method {
	case "bitsandbytes":
		q.bitsandbytes(c)
	case "fp8", "fbgemm_fp8":
		q.fp8(c)
	case "awq", "gptq", "gptqmodel":
		q.grouped(c)
	case "auto-round", "intel/auto-round", "autoround", "auto_round":
		q.autoround(c)
	case "compressed-tensors":
		q.compressed(c)
		head = false // named where it is left out
	case "modelopt":
		q.modelopt(c)
		head = false
	case "quark":
		q.quark(c)
		head = false
	case "mxfp4":
		q.rest, q.OnlyExperts = microscaled("mxfp4"), true
	case mlx:
		q.mlx(c)
		head = false
	case "exl2", "exl3":
		q.exllama(c)
		head = false
	case "torchao":
		q.torchao(c)
		head = !q.embeddings
	case "quanto", "hqq", "eetq":
		q.libraries(c)
	default:
		q.Known = false
	}
	if !q.Known && len(q.rules) == 0 {
		q.named = false // which modules are converted is not known either
	}
	q.check(c)
	if head {
		q.left.add(namesOf("lm_head"))
	}
	return q
}

// check refuses elements of bits that cannot be.
func (q *Quantisation) check(c keys) {
	all := []storage{q.rest}
	for _, r := range q.rules {
		if r.storage != nil {
			all = append(all, *r.storage)
		}
	}
	for _, s := range all {
		if q.Known && s != (storage{}) && !s.valid() {
			c.fail("bits", json.RawMessage(fmt.Sprint(int64(s.bits))), fmt.Sprintf("1 to %d", mostBits))
		}
	}
}

// quantMethod is the method by its name, or by the keys that only one has.
func quantMethod(c keys) string {
	method := strings.ToLower(c.text("quant_method"))
	switch {
	case method != "":
	case c.flag("load_in_4bit"), c.flag("load_in_8bit"):
		return "bitsandbytes"
	case c.text("quant_algo") != "" || c.given["quantization"] != nil:
		return "modelopt"
	case c.given["group_size"] != nil && c.given["bits"] != nil:
		return mlx
	}
	return method
}

func (q *Quantisation) bitsandbytes(c keys) {
	q.PlainExperts = true
	if c.flag("load_in_8bit") {
		q.Name, q.rest = "int8", rows(8, 4)
		return
	}
	q.Name = "nf4"
	if kind := c.text("bnb_4bit_quant_type"); kind != "" {
		q.Name = kind
	}
	q.rest = storage{bits: 4, group: 64, scale: 4, matrix: 64, runs: true, doubled: c.flag("bnb_4bit_use_double_quant")}
}

func (q *Quantisation) fp8(c keys) {
	sides := c.sides("weight_block_size")
	switch {
	case q.Method == "fbgemm_fp8":
		q.rest = rows(8, 4)
	case sides != nil:
		q.rest = blocks(sides, 4)
	default:
		q.rest = storage{bits: 8, matrix: 4}
	}
}

// grouped is AWQ and GPTQ: of the latter rules by module (dynamic, which GPTQModel matches from the start of a name;
// one that begins with - leaves out) and modules that alone are converted.
func (q *Quantisation) grouped(c keys) {
	q.DecoderOnly = true
	q.rest = q.groupsOf(c, 4, 128)
	dynamic := c.object("dynamic")
	for _, key := range c.order("dynamic", dynamic) {
		r := rule{names: namesOf("re:" + strings.TrimLeft(key, "+-:"))}
		if !strings.HasPrefix(key, "-") {
			s := q.groupsOf(dynamic.object(key), q.rest.bits, q.rest.group)
			r.storage = &s
		}
		q.rules = append(q.rules, r)
	}
	if inside := c.nested("modules_in_block_to_quantize"); inside != nil {
		q.rules, q.named = append(q.rules, rule{namesOf(inside...), &q.rest}), true
	}
}

// groupsOf reads bits and groups of a matrix, what is absent as it is elsewhere.
func (q *Quantisation) groupsOf(c keys, bits float64, group int) storage {
	for _, name := range []string{"bits", "w_bit"} {
		bits = float64(c.bits(name, int(bits)))
	}
	for _, name := range []string{"group_size", "q_group_size"} {
		if q.Method == "auto-round" && string(c.given[name]) == "0" { // the whole matrix
			return storage{bits: bits, matrix: 2 + bits/8}
		}
		group = c.group(name, group, true)
	}
	s := groups(bits, group, bits/8)
	s.loose = q.Method == "awq"
	if strings.HasPrefix(q.Method, "gptq") {
		s.column = 4 // g_idx
	}
	return s
}

// bits are those of an element, as otherwise where nothing is said.
func (k keys) bits(name string, otherwise int) int {
	raw, _ := k.find(name)
	if raw == nil {
		return otherwise
	}
	n := k.optional(name)
	if n < 1 || n > mostBits {
		k.fail(name, raw, fmt.Sprintf("1 to %d", mostBits))
		return otherwise
	}
	return n
}

// group is how many elements of a row share a scale, as otherwise where nothing is said: 0 for a whole row, which -1
// stands for where the method has it. No other number below 1 is one that a library takes.
func (k keys) group(name string, otherwise int, rows bool) int {
	raw, _ := k.find(name)
	if raw == nil {
		return otherwise
	}
	n, want := k.optional(name), "a whole number above 0"
	switch {
	case n > 0:
		return n
	case n == -1 && rows:
		return 0
	case rows:
		want += ", or -1 for a whole row"
	}
	k.fail(name, raw, want)
	return otherwise
}

// sides are the rows and columns of a block, as a list or as in "128x128"; nil where nothing is said.
func (k keys) sides(name string) []int {
	raw, _ := k.find(name)
	if raw == nil {
		return nil
	}
	var text string
	sides := make([]int, 2)
	if json.Unmarshal(raw, &text) == nil {
		if n, err := fmt.Sscanf(text, "%dx%d", &sides[0], &sides[1]); n != 2 || err != nil {
			sides = nil
		}
	} else if json.Unmarshal(raw, &sides) != nil {
		sides = nil
	}
	if len(sides) != 2 || sides[0] < 1 || sides[1] < 1 {
		k.fail(name, raw, "two whole numbers above 0")
		return nil
	}
	return sides
}

// autoround is AutoRound: groups, and modules in other bits, 16 among them, by name or by expression.
func (q *Quantisation) autoround(c keys) {
	q.Method = "auto-round"
	q.DecoderOnly = true
	q.rest = q.groupsOf(c, 4, 128)
	if kind := strings.ToLower(c.text("data_type")); strings.HasPrefix(kind, "mx_fp") || strings.HasPrefix(kind, "mxfp") {
		q.rest = microscaled(fmt.Sprintf("mxfp%d", c.bits("bits", 4)))
	} else if strings.HasPrefix(kind, "nv_fp") || strings.HasPrefix(kind, "nvfp") {
		q.rest = microscaled("nvfp4")
	}
	extra := c.object("extra_config")
	for _, key := range c.order("extra_config", extra) {
		s := q.groupsOf(extra.object(key), q.rest.bits, q.rest.group)
		r := rule{storage: &s}
		if s.bits >= mostBits {
			r.storage = nil
		}
		if strings.ContainsAny(key, `*+?^$()[]{}|\`) {
			r.expression(key, key)
		} else {
			r.names = namesOf(key)
		}
		q.rules = append(q.rules, r)
	}
}

// compressed is compressed-tensors, the format of llm-compressor: groups of modules with a scheme each, and a list of
// modules left out. A group that names modules goes before one that takes a kind of them.
func (q *Quantisation) compressed(c keys) {
	q.left.add(namesOf(c.strings("ignore")...))
	q.CacheBits = cacheBits(c)
	all := c.object("config_groups")
	q.named, q.Known = true, false
	for _, name := range slices.Sorted(maps.Keys(all.given)) {
		g := all.object(name)
		s, called, known := compressedStorage(g.object("weights"), cmpText(g.text("format"), c.text("format")))
		if !known {
			q.Known, q.named = false, false
			return
		}
		q.Known = true
		var targets []string
		for _, target := range g.strings("targets") {
			if !strings.HasPrefix(target, "re:") && !strings.Contains(target, ".") && target != "lm_head" { // a class
				q.rest, q.named = s, false
				continue
			}
			targets = append(targets, target)
		}
		if targets == nil {
			q.rest, q.named = s, false
		} else {
			q.rules = append(q.rules, rule{namesOf(targets...), &s})
		}
		if q.Name == q.Method {
			q.Name = called
		} else if !slices.Contains(strings.Split(q.Name, "+"), called) {
			q.Name += "+" + called
		}
	}
}

// cmpText is the first that is not empty.
func cmpText(first, second string) string {
	if first != "" {
		return first
	}
	return second
}

// compressedStorage is the storage of one group's weights and what it is called.
func compressedStorage(w keys, format string) (s storage, called string, known bool) {
	bits, kind, strategy, size := w.bits("num_bits", 8), w.text("type"), w.text("strategy"), 0
	if strategy == "" || strings.HasSuffix(strategy, "group") { // elsewhere a size has no meaning
		size = w.group("group_size", 0, true)
	}
	called = fmt.Sprintf("w%d", bits)
	switch {
	case strings.Contains(format, "sparse"), strings.Contains(format, "marlin-24"):
		return s, called, false
	case strings.HasPrefix(format, "nvfp4"), kind == "float" && bits == 4 && size == 16:
		return microscaled("nvfp4"), "nvfp4", true
	case strings.HasPrefix(format, "mxfp"), kind == "float" && bits == 4, kind == "float" && size == 32:
		called = fmt.Sprintf("mxfp%d", bits)
		return microscaled(called), called, true
	}
	switch sides := w.sides("block_structure"); {
	case strategy == "tensor":
		s = storage{bits: float64(bits), matrix: 2}
	case strategy == "block" || sides != nil:
		s = blocks(sides, 2)
	case size > 0:
		s = groups(float64(bits), size, 0)
	default:
		s = rows(float64(bits), 2)
	}
	if format == "pack-quantized" {
		s.matrix += 16 // the shape, two int64
	}
	if raw, _ := w.find("symmetric"); raw != nil && !w.flag("symmetric") {
		s.zero = float64(bits) / 8
	}
	return s, called, true
}

// cacheBits is what keys and values were calibrated for, 0 where they were not.
func cacheBits(c keys) int {
	if strings.HasPrefix(strings.ToUpper(c.text("kv_cache_quant_algo")), "FP8") {
		return 8
	}
	scheme := c.object("kv_cache_scheme")
	if scheme.text("type") != "float" {
		return 0
	}
	return scheme.optional("num_bits")
}

// modelopt is NVIDIA's ModelOpt, in config.json or in hf_quant_config.json beside it. Where it mixes schemes, each
// module has its own.
func (q *Quantisation) modelopt(c keys) {
	if c.given["quantization"] != nil {
		c = c.object("quantization")
	}
	q.left.add(namesOf(slices.Concat(c.strings("exclude_modules"), c.strings("ignore"))...))
	q.CacheBits = cacheBits(c)
	each := c.object("quantized_layers")
	if strings.ToUpper(c.text("quant_algo")) != "MIXED_PRECISION" {
		q.rest, q.Name, q.Known = modeloptStorage(c)
		return
	}
	q.named, q.Known = true, len(each.given) > 0
	schemes := map[string]*rule{}
	var called []string
	for _, name := range slices.Sorted(maps.Keys(each.given)) {
		s, scheme, known := modeloptStorage(each.object(name))
		if !known {
			q.Known, q.named, q.rules = false, false, nil
			return
		}
		if schemes[scheme] == nil {
			schemes[scheme], called = &rule{storage: &s}, append(called, scheme)
		}
		schemes[scheme].add(namesOf(name))
	}
	for _, scheme := range called {
		q.rules = append(q.rules, *schemes[scheme])
	}
	q.Name = cmpText(strings.Join(called, "+"), q.Name)
}

// modeloptStorage is one scheme by its quant_algo.
func modeloptStorage(c keys) (s storage, called string, known bool) {
	switch strings.ToUpper(c.text("quant_algo")) {
	case "FP8":
		s, called = storage{bits: 8, matrix: 8}, "fp8"
	case "FP8_PER_CHANNEL_PER_TOKEN", "W8A8_SQ_PER_CHANNEL":
		s, called = rows(8, 4), "fp8"
	case "FP8_PB_WO":
		s, called = blocks(nil, 4), "fp8"
	case "NVFP4", "NVFP4_AWQ", "W4A16_NVFP4", "W4A8_NVFP4_FP8":
		s, called = microscaled("nvfp4"), "nvfp4"
	case "MXFP8":
		s, called = microscaled("mxfp8"), "mxfp8"
	case "MXFP4", "W4A8_MXFP4_FP8", "W4A16_MXFP4":
		s, called = microscaled("mxfp4"), "mxfp4"
	case "W4A16_AWQ", "W4A8_AWQ", "W4A16":
		s, called = groups(4, c.group("group_size", 128, false), 0.5), "w4a16"
	default:
		return s, "modelopt", false
	}
	s.loose = true
	return s, called, true
}

// quark is AMD's Quark: one scheme, and others by module.
func (q *Quantisation) quark(c keys) {
	q.left.add(namesOf(c.strings("exclude")...))
	q.rest, q.Name, q.Known = quarkStorage(c.object("global_quant_config").object("weight"))
	each := c.object("layer_quant_config")
	for _, key := range c.order("layer_quant_config", each) {
		s, _, known := quarkStorage(each.object(key).object("weight"))
		if !known {
			q.Known, q.rules = false, nil
			return
		}
		q.rules = append(q.rules, rule{namesOf(key), &s})
	}
}

// quarkStorage reads dtype and qscheme of a matrix.
func quarkStorage(w keys) (s storage, called string, known bool) {
	kind, scheme, size := strings.ToLower(w.text("dtype")), w.text("qscheme"), w.group("group_size", 0, true)
	bits := map[string]float64{"fp4": 4, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8,
		"mxfp4": 4, "fp6_e2m3": 6, "fp6_e3m2": 6}[kind]
	called = "quark " + kind
	switch {
	case bits == 0:
		return s, "quark", false
	case w.text("scale_format") == "e8m0", kind == "mxfp4", kind == "fp4" && size == 32:
		s = microscaled(fmt.Sprintf("mxfp%g", bits))
	case scheme == "per_tensor":
		s = storage{bits: bits, matrix: 4}
	case scheme == "per_group" && size > 0:
		s = groups(bits, size, bits/8)
	default:
		s = rows(bits, 4)
	}
	s.loose = true
	return s, called, true
}

// mlx is MLX's groups with a scale and a bias each, embeddings and head too; the tower stays. Modules stand beside with
// bits of their own, or false.
func (q *Quantisation) mlx(c keys) {
	q.embeddings = true
	of := func(c keys, outer storage) storage {
		switch mode := c.text("mode"); mode {
		case "mxfp4", "mxfp8", "nvfp4":
			return microscaled(mode)
		}
		s := groups(float64(c.bits("bits", int(outer.bits))), c.group("group_size", outer.group, false), 2)
		s.loose = true
		return s
	}
	q.rest = of(c, groups(4, 64, 2))
	q.Name = fmt.Sprintf("mlx %g bits", q.rest.bits)
	for _, name := range slices.Sorted(maps.Keys(c.given)) {
		switch raw := string(c.given[name]); {
		case !strings.Contains(name, ".") && name != "lm_head":
		case raw == "false":
			q.left.add(namesOf(name))
		case strings.HasPrefix(raw, "{"):
			s := of(c.object(name), q.rest)
			q.rules = append(q.rules, rule{namesOf(name), &s})
		}
	}
	q.left.add(namesOf("visual", "vision_tower", "vision_model", "multi_modal_projector", "connector"))
}

// exllama is EXL2 and EXL3: bits on the average of the decoder's matrices, and of the head.
func (q *Quantisation) exllama(c keys) {
	q.DecoderOnly, q.rest = true, storage{bits: c.fraction("bits"), loose: true}
	if head := c.fraction("head_bits"); head > 0 {
		q.rules = append(q.rules, rule{namesOf("lm_head"), &storage{bits: head, loose: true}})
	}
}

// libraries are what transformers hands to others whole.
func (q *Quantisation) libraries(c keys) {
	q.PlainExperts = true
	switch q.Method {
	case "eetq":
		q.rest = rows(8, 2)
	case "quanto":
		q.Name = "quanto " + c.text("weights")
		switch c.text("weights") {
		case "int8", "float8", "":
			q.rest = rows(8, 2)
		case "int4":
			q.rest = groups(4, 128, 2)
		case "int2":
			q.rest = groups(2, 128, 2)
		default:
			q.Known = false
		}
	case "hqq":
		q.hqq(c)
	}
}

// hqq is one scheme for all, or one for each kind of module.
func (q *Quantisation) hqq(c keys) {
	q.left.add(namesOf(c.strings("skip_modules")...))
	of := func(c keys) storage {
		inner := c.object("weight_quant_params")
		s := groups(float64(inner.bits("nbits", 4)), inner.group("group_size", 64, false), 2)
		s.loose = true
		return s
	}
	schemes := c.object("quant_config")
	if _, one := schemes.given["weight_quant_params"]; one || len(schemes.given) == 0 {
		q.rest = of(schemes)
		return
	}
	q.named = true
	for _, name := range slices.Sorted(maps.Keys(schemes.given)) {
		s := of(schemes.object(name))
		q.rules = append(q.rules, rule{namesOf(name), &s})
	}
}

// torchao is one scheme, or one by module with a default.
func (q *Quantisation) torchao(c keys) {
	q.PlainExperts, q.embeddings = true, c.flag("include_input_output_embeddings")
	kind := c.text("quant_type")
	if kind != "" {
		q.rest, q.Name, q.Known = torchaoStorage(kind, c.object("quant_type_kwargs"))
		return
	}
	scheme := c.object("quant_type").object("default")
	each := scheme.object("_data").object("module_fqn_to_config")
	if each.given == nil {
		each = scheme.object("_data").object("fqn_to_config")
	}
	if each.given == nil {
		q.rest, q.Name, q.Known = torchaoStorage(scheme.text("_type"), scheme.object("_data"))
		return
	}
	q.named = each.given["_default"] == nil
	for _, name := range slices.Sorted(maps.Keys(each.given)) {
		if string(each.given[name]) == "null" {
			q.left.add(namesOf(name))
			continue
		}
		s, called, known := torchaoStorage(each.object(name).text("_type"), each.object(name).object("_data"))
		q.Known = q.Known && known
		if name == "_default" {
			q.rest, q.Name = s, called
		} else {
			q.rules = append(q.rules, rule{namesOf(name), &s})
		}
	}
}

// torchaoStorage reads one of torchao's configurations by its class's name, of either spelling.
func torchaoStorage(kind string, data keys) (s storage, called string, known bool) {
	kind = strings.ToLower(strings.ReplaceAll(kind, "_", ""))
	called = "torchao " + kind
	switch {
	case strings.Contains(kind, "intx"):
		s = groups(8, 128, 1)
	case strings.Contains(kind, "int4"):
		s = groups(4, data.group("group_size", 128, false), 2)
	case strings.Contains(kind, "int8"):
		s = rows(8, 5)
	case strings.Contains(kind, "float8"):
		s = rows(8, 4)
	default:
		return s, called, false
	}
	return s, called, true
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
