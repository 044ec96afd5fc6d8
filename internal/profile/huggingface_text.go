package profile

import (
	"fmt"
	"slices"
	"strings"
)

// decoderReading is what a class's decoder is beyond its keys.
type decoderReading struct {
	variant Variant
	own     bool // Qwen3-VL's decoder, which is no variant
}

// read fills in a decoder from its keys.
func (r decoderReading) read(k keys) Text {
	t := Text{
		HiddenSize: k.number("hidden_size"), Layers: k.number("num_hidden_layers"), Heads: k.number("num_attention_heads"),
		IntermediateSize: k.optional("intermediate_size"), VocabSize: k.number("vocab_size"), MaxPositions: positions(k),
	}
	t.KVHeads = k.or("num_key_value_heads", t.Heads)
	t.HeadDim = k.or("head_dim", t.HiddenSize/max(t.Heads, 1))
	v := r.variant
	t.MoE = mixture(k, &v)
	if t.MoE != nil {
		v.DenseAt = denseLayers(k, t.Layers)
	}
	if k.declares("attention_bias") && k.flag("attention_bias") {
		// Of these classes Llama, DeepSeek and Qwen3 give the projection back a bias as well.
		v.ProjectionBias, v.OutputBias = true, true
	}
	v.MLPBias = k.declares("mlp_bias") && k.flag("mlp_bias")
	if k.kind == "glm4v_moe_text" {
		v.OutputBias = false
	}
	latent(k, &v)
	gemma4(k, &v)
	layers(k, &t, &v)
	if t.Layers > mostLayers {
		return t // Validate says so
	}
	if !r.own || !v.plainQwen3VL() {
		t.Variant = &v
		if r.own && v.Architecture == "" {
			v.Architecture = "qwen3vl"
			if t.MoE != nil {
				v.Architecture = "qwen3vlmoe"
			}
		}
	}
	return t
}

// plainQwen3VL reports whether nothing differs from Qwen3-VL's decoder.
func (v *Variant) plainQwen3VL() bool {
	return v.LayerTypes == nil && v.DenseAt == nil && !v.ProjectionBias && v.Window == 0
}

// mixture reads the experts of a mixture, nil where there are none or but one.
func mixture(k keys, v *Variant) *MoE {
	size := "moe_intermediate_size"
	var experts int
	switch k.kind {
	case "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text", "llama", "mistral", "ministral3", "gemma2",
		"gemma3_text", "qwen3_5_text", "glm4v_text", "gemma4_unified_text":
		return nil // these classes have no experts, whatever the file says
	case "mixtral", "llama4_text", "gpt_oss":
		size, experts = "intermediate_size", k.number("num_local_experts")
	case "gemma4_text":
		if !k.flag("enable_moe_block") {
			return nil
		}
		v.BesideExperts = true
		return &MoE{Experts: k.number("num_experts"), ExpertsPerToken: k.number("top_k_experts"),
			IntermediateSize: k.number(size)}
	case "deepseek_v2", "deepseek_v3", "glm4v_moe_text", "deepseek_ocr2_text":
		experts = k.number("n_routed_experts")
	default:
		experts = k.number("num_experts")
	}
	m := &MoE{Experts: experts, ExpertsPerToken: k.number("num_experts_per_tok"), IntermediateSize: k.number(size)}
	switch k.kind {
	case "deepseek_v2", "deepseek_v3", "glm4v_moe_text", "deepseek_ocr2_text":
		v.SharedExperts = k.optional("n_shared_experts")
	case "llama4_text":
		v.SharedExperts, v.DenseSize, v.PackedExperts = 1, k.number("intermediate_size_mlp"), true
	case "qwen3_5_moe_text":
		v.SharedSize = k.number("shared_expert_intermediate_size")
	case "gpt_oss":
		v.PackedExperts = true
	}
	return m
}

// denseLayers are the layers of a mixture that have a dense MLP: the first ones, those named, and those between steps.
func denseLayers(k keys, layers int) []int {
	first, step, named := k.optional("first_k_dense_replace"), k.optional("decoder_sparse_step"),
		k.numbers("mlp_only_layers")
	sparse, kinds := k.numbers("moe_layers"), k.strings("mlp_layer_types")
	if k.kind == "llama4_text" && sparse == nil {
		step = k.number("interleave_moe_layer_step")
	}
	var dense []int
	for i := range min(layers, mostLayers) {
		if i < first || slices.Contains(named, i) || step > 1 && (i+1)%step != 0 ||
			sparse != nil && !slices.Contains(sparse, i) || i < len(kinds) && kinds[i] == "dense" {
			dense = append(dense, i)
		}
	}
	return dense
}

// latent reads attention over compressed keys and values.
func latent(k keys, v *Variant) {
	if k.kind != "deepseek_v2" && k.kind != "deepseek_v3" {
		return
	}
	v.RouterBias = k.kind == "deepseek_v3"
	v.Latent = &Latent{
		QueryRank: k.optional("q_lora_rank"), KVRank: k.number("kv_lora_rank"), NopeDim: k.number("qk_nope_head_dim"),
		RopeDim: k.number("qk_rope_head_dim"), ValueDim: k.number("v_head_dim"),
	}
}

// layers reads what each layer sees: a list in the file goes first, then what the class makes of its other keys.
func layers(k keys, t *Text, v *Variant) {
	if k.kind == "qwen3_5_text" || k.kind == "qwen3_5_moe_text" {
		v.Linear = &Linear{
			KeyHeads: k.number("linear_num_key_heads"), ValueHeads: k.number("linear_num_value_heads"),
			KeyDim: k.number("linear_key_head_dim"), ValueDim: k.number("linear_value_head_dim"),
			Kernel: k.number("linear_conv_kernel_dim"),
		}
		v.RotaryFactor = rotaryFactor(k)
		t.PredictLayers = k.optional("mtp_num_hidden_layers")
	}
	window := k.optional("sliding_window")
	if raw, _ := k.find("use_sliding_window"); raw != nil && !k.flag("use_sliding_window") {
		window = 0
	}
	if window > 0 && strings.HasPrefix(k.kind, "gemma4") && k.text("use_bidirectional_attention") == "all" {
		window = window/2 + 1
	}
	if window > 0 && k.kind == "gemma3_text" && k.flag("use_bidirectional_attention") {
		window = window/2 + 1
	}
	chunk := 0
	if k.kind == "llama4_text" {
		chunk = k.optional("attention_chunk_size")
	}
	kinds := declaredLayers(k, t.Layers)
	if kinds == nil {
		kinds = classLayers(k, min(t.Layers, mostLayers), window, chunk)
	}
	if !slices.ContainsFunc(kinds, func(l LayerType) bool { return l != FullAttention }) {
		return
	}
	v.LayerTypes, v.Window = kinds, window
	if slices.Contains(kinds, ChunkedAttention) {
		v.Window = chunk
	}
	if v.Window == 0 && v.Linear == nil && k.err == nil {
		k.reader.err = fmt.Errorf("%s: %slayer_types has sliding layers and no sliding_window says how far they see", k.name,
			k.path)
	}
}

// declaredLayers is layer_types as the file has it. Mistral's class passes it over.
func declaredLayers(k keys, layers int) []LayerType {
	list := k.strings("layer_types")
	if list == nil || k.kind == "mistral" || k.kind == "mixtral" {
		return nil
	}
	if len(list) != layers && k.err == nil {
		k.reader.err = fmt.Errorf("%s: %slayer_types names %d of %d layers", k.name, k.path, len(list), layers)
	}
	var kinds []LayerType
	for _, name := range list {
		kind := LayerType(name)
		if !slices.Contains([]LayerType{FullAttention, SlidingAttention, ChunkedAttention, LinearAttention}, kind) &&
			k.err == nil {
			k.reader.err = fmt.Errorf("%s: %slayer_types: %q is not known", k.name, k.path, name)
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

// gemma4 reads what Gemma 4's layers differ in. Keys and values of the layers that see all tokens have heads of their
// own; how many is said only where they are one.
func gemma4(k keys, v *Variant) {
	if !strings.HasPrefix(k.kind, "gemma4") {
		return
	}
	v.FullHeadDim = k.or("global_head_dim", 512)
	if v.KeysAreValues = k.flag("attention_k_eq_v"); v.KeysAreValues {
		v.FullKVHeads = k.optional("num_global_key_value_heads")
	}
	v.SharedLayers, v.DoubleWide = k.optional("num_kv_shared_layers"), k.flag("use_double_wide_mlp")
	if v.LayerInput = k.optional("hidden_size_per_layer_input"); v.LayerInput > 0 {
		v.LayerVocab = k.number("vocab_size_per_layer_input")
	}
}

// classLayers is what a class makes of keys other than layer_types (transformers 5.24, each configuration's
// __post_init__).
func classLayers(k keys, layers, window, chunk int) []LayerType {
	slides := func(int) bool { return window > 0 }
	other := SlidingAttention
	switch k.kind {
	case "qwen2", "qwen3", "qwen2_vl_text", "qwen2_5_vl_text":
		first := k.optional("max_window_layers")
		slides = func(i int) bool { return window > 0 && i >= first }
	case "gemma2", "gpt_oss":
		slides = func(i int) bool { return (i+1)%2 != 0 }
	case "gemma4_text", "gemma4_unified_text":
		slides = func(i int) bool { return (i+1)%6 != 0 && i < layers-1 }
	case "gemma3_text":
		every := k.or("sliding_window_pattern", 6)
		slides = func(i int) bool { return (i+1)%every != 0 }
	case "qwen3_5_text", "qwen3_5_moe_text":
		every := k.or("full_attention_interval", 4)
		other, slides = LinearAttention, func(i int) bool { return (i+1)%every != 0 }
	case "llama4_text":
		without, every := k.numbers("no_rope_layers"), k.number("no_rope_layer_interval")
		other, slides = ChunkedAttention, func(i int) bool {
			if len(without) == layers {
				return chunk > 0 && without[i] != 0
			}
			return chunk > 0 && (i+1)%max(every, 1) != 0
		}
	}
	var kinds []LayerType
	for i := range layers {
		kind := FullAttention
		if slides(i) {
			kind = other
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

// rotaryFactor is how much of a head of Qwen3.5 rotates; its class's default is a quarter.
func rotaryFactor(k keys) float64 {
	for _, name := range []string{"rope_parameters", "rope_scaling"} {
		if f := k.object(name).fraction("partial_rotary_factor"); f > 0 {
			return f
		}
	}
	if f := k.fraction("partial_rotary_factor"); f > 0 {
		return f
	}
	return 0.25
}

// positions is how many tokens of context the decoder takes. YaRN stretches what it was trained for by a factor, linear
// and dynamic scaling its limit; the other kinds of scaling are within max_position_embeddings already.
func positions(k keys) int {
	limit := k.number("max_position_embeddings")
	for _, name := range []string{"rope_parameters", "rope_scaling"} {
		rope := k.object(name)
		if _, nested := rope.given["full_attention"]; nested {
			rope = rope.object("full_attention")
		}
		kind := rope.text("rope_type")
		if kind == "" {
			kind = rope.text("type")
		}
		factor, trained := rope.fraction("factor"), rope.optional("original_max_position_embeddings")
		switch {
		case factor <= 1 || factor > 1<<16 || k.kind == "gemma3_text":
		case kind == "yarn" && trained > 0:
			limit = max(limit, int(float64(trained)*factor))
		case kind == "yarn", kind == "linear", kind == "dynamic":
			return int(float64(limit) * factor)
		}
	}
	return limit
}
