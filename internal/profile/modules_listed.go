package profile

import "fmt"

// The towers of this file are known by their weights alone: the reader lists them, module by module as transformers'
// classes have them, and what they work in is assumed.

// listed begins the list of a tower under a prefix.
func listed(prefix string) *inventory { return &inventory{part: VisionCore, prefix: prefix} }

// linear adds linear layers of a block.
func (l *inventory) linear(out, in, bias int64, names ...string) {
	for _, name := range names {
		l.add(LinearModule, name, out, in, bias)
	}
}

// gemma4Tower lists Gemma 4's tower: gated MLPs, norms before and after, positions learned for both sides.
func gemma4Tower(k keys, v Vision) []Module {
	c, f := int64(v.HiddenSize), int64(v.IntermediateSize)
	head := int64(k.number("head_dim"))
	q, kv := head*int64(v.Heads), head*int64(k.number("num_key_value_heads"))
	l := listed("model.vision_tower.")
	l.add(LinearModule, "patch_embedder.input_proj", c, 3*int64(v.PatchSize*v.PatchSize), 0)
	l.plain("patch_embedder.position_embedding_table", 2*int64(k.number("position_embedding_size"))*c)
	for i := range min(v.Depth, mostLayers) {
		l.at("encoder.layers.%d.", i)
		l.linear(q, c, 0, "self_attn.q_proj.linear")
		l.linear(kv, c, 0, "self_attn.k_proj.linear", "self_attn.v_proj.linear")
		l.linear(c, q, 0, "self_attn.o_proj.linear")
		l.linear(f, c, 0, "mlp.gate_proj.linear", "mlp.up_proj.linear")
		l.linear(c, f, 0, "mlp.down_proj.linear")
		l.plain("norms", 4*c+2*head)
	}
	l.part, l.prefix, l.here = MergerPart, "model.embed_vision.", ""
	l.linear(int64(v.OutHiddenSize), c, 0, "embedding_projection")
	return l.list
}

// gemma4Audio lists Gemma 4's encoder of sound: two convolutions that halve both sides, and blocks of two MLPs around
// attention and a convolution over time.
func gemma4Audio(k keys, width int64) []Module {
	c, out := int64(k.number("hidden_size")), int64(k.number("output_proj_dims"))
	l := listed("model.audio_tower.")
	channels := k.sizes("subsampling_conv_channels", 1<<16)
	if len(channels) == 2 {
		first, second := int64(channels[0]), int64(channels[1])
		l.add(Convolution, "subsample_conv_projection.layer0.conv", first, 9, 0)
		l.add(Convolution, "subsample_conv_projection.layer1.conv", second, 9*first, 0)
		l.plain("subsample_conv_projection.norms", first+second)
		l.linear(c, first/4*second, 0, "subsample_conv_projection.input_proj_linear")
	}
	for i := range min(k.number("num_hidden_layers"), mostLayers) {
		l.at("layers.%d.", i)
		for _, block := range []string{"feed_forward1", "feed_forward2"} {
			l.linear(4*c, c, 0, block+".ffw_layer_1.linear")
			l.linear(c, 4*c, 0, block+".ffw_layer_2.linear")
		}
		l.linear(c, c, 0, "self_attn.q_proj.linear", "self_attn.k_proj.linear", "self_attn.v_proj.linear",
			"self_attn.post.linear", "self_attn.relative_k_proj")
		l.plain("self_attn.per_dim_scale", c/int64(max(k.number("num_attention_heads"), 1)))
		l.linear(2*c, c, 0, "lconv1d.linear_start.linear")
		l.linear(c, c, 0, "lconv1d.linear_end.linear")
		l.add(Convolution, "lconv1d.depthwise_conv1d", c, int64(k.number("conv_kernel_size")), 0)
		l.plain("norms", 9*c)
	}
	l.at("")
	l.linear(out, c, out, "output_proj")
	l.part, l.prefix = MergerPart, "model.embed_audio."
	l.linear(width, out, 0, "embedding_projection")
	return l.list
}

// gemma4Patches lists what Gemma 4 without encoders has in their place: a projection of large patches.
func gemma4Patches(v Vision, positions int, audio int64) []Module {
	c, d := int64(v.HiddenSize), int64(v.OutHiddenSize)
	side := int64(v.PatchSize * v.SpatialMergeSize)
	l := listed("model.embed_vision.")
	l.plain("patch_ln1", 2*3*side*side)
	l.linear(c, 3*side*side, c, "patch_dense")
	l.plain("norms", 4*c)
	l.plain("pos_embedding", 2*int64(positions)*c)
	l.part = MergerPart
	l.linear(d, c, 0, "multimodal_embedder.embedding_projection")
	if audio > 0 {
		l.prefix = "model.embed_audio."
		l.linear(d, audio, 0, "embedding_projection")
	}
	return l.list
}

// glmTower lists GLM-4.1V's to 4.6V's: gated MLPs as wide as the decoder, a convolution that halves both sides, and a
// gated merger as wide as intermediate_size says.
func glmTower(k keys, v Vision) []Module {
	c, d, f := int64(v.HiddenSize), int64(v.OutHiddenSize), int64(v.IntermediateSize)
	side := int64(v.ImageSize / max(v.PatchSize, 1))
	var bias int64
	if k.flag("attention_bias") {
		bias = 3 * c
	}
	l := listed("model.visual.")
	l.add(Embedding, "embeddings.position_embedding", side*side, c, 0)
	l.add(Convolution, "patch_embed.proj", c, int64(v.InChannels*v.TemporalPatchSize*v.PatchSize*v.PatchSize), c)
	for i := range min(v.Depth, mostLayers) {
		l.at("blocks.%d.", i)
		l.plain("norms", 2*c)
		l.linear(3*c, c, bias, "attn.qkv")
		l.linear(c, c, 0, "attn.proj")
		l.linear(d, c, 0, "mlp.gate_proj", "mlp.up_proj")
		l.linear(c, d, 0, "mlp.down_proj")
	}
	l.at("")
	l.plain("norms", 2*c)
	l.part = MergerPart
	l.add(Convolution, "downsample", d, v.merged(), d)
	l.at("merger.")
	l.linear(d, d, 0, "proj")
	l.plain("post_projection_norm", 2*d)
	l.linear(f, d, 0, "gate_proj", "up_proj")
	l.linear(d, f, 0, "down_proj")
	return l.list
}

// llama4Tower lists Llama 4's: a class token, learned positions, and an MLP over neighbouring patches side by side.
func llama4Tower(k keys, v Vision) []Module {
	c, f := int64(v.HiddenSize), int64(v.IntermediateSize)
	side := int64(v.ImageSize / max(v.PatchSize, 1))
	l := listed("model.vision_model.")
	l.linear(c, int64(v.InChannels*v.PatchSize*v.PatchSize), 0, "patch_embedding.linear")
	l.plain("class_embedding", c)
	l.plain("positional_embedding_vlm", (side*side+1)*c)
	l.plain("layernorms", 4*c)
	for i := range min(v.Depth, mostLayers) {
		l.at("model.layers.%d.", i)
		l.linear(c, c, c, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
		l.linear(f, c, f, "mlp.fc1")
		l.linear(c, f, c, "mlp.fc2")
		l.plain("layernorms", 4*c)
	}
	in, out := int64(k.number("projector_input_dim")), int64(k.number("projector_output_dim"))
	l.part, l.here = MergerPart, "vision_adapter.mlp."
	l.linear(in, f, 0, "fc1")
	l.linear(out, out, 0, "fc2")
	l.prefix, l.here = "model.multi_modal_projector.", ""
	l.linear(int64(v.OutHiddenSize), int64(k.number("vision_output_dim")), 0, "linear_1")
	return l.list
}

// miniCPMTower lists MiniCPM-V 4.6's and 4.7's: SigLIP, attention over windows of patches in its midst that joins them,
// and a merger that joins them again.
func miniCPMTower(k keys, v Vision) []Module {
	c, f := int64(v.HiddenSize), int64(v.IntermediateSize)
	side := int64(v.ImageSize / max(v.PatchSize, 1))
	window := int64(1)
	for _, n := range k.sizes("window_kernel_size", 1<<6) {
		window *= int64(n)
	}
	l := listed("model.vision_tower.")
	l.add(Convolution, "embeddings.patch_embedding", c, int64(v.InChannels*v.PatchSize*v.PatchSize), c)
	l.add(Embedding, "embeddings.position_embedding", side*side, c, 0)
	attention := []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"}
	for i := range min(v.Depth, mostLayers) {
		l.at("encoder.layers.%d.", i)
		l.linear(c, c, c, attention...)
		l.linear(f, c, f, "mlp.fc1")
		l.linear(c, f, c, "mlp.fc2")
		l.plain("layer_norms", 4*c)
	}
	l.at("")
	l.plain("post_layernorm", 2*c)
	l.part, l.here = MergerPart, "vit_merger."
	l.linear(c, c, c, attention...)
	l.plain("norms", 2*c+2*window*c)
	l.linear(window*f, window*c, window*f, "linear_1")
	l.linear(c, window*f, c, "linear_2")
	times := k.outer.or("merger_times", 1)
	l.prefix = "model.merger."
	for i := range min(times, mostLayers) {
		out := c
		if i == times-1 {
			out = int64(v.OutHiddenSize)
		}
		l.at("mlp.%d.", i)
		l.plain("pre_norm", 8*c)
		l.linear(4*c, 4*c, 4*c, "linear_1")
		l.linear(out, 4*c, out, "linear_2")
	}
	return l.list
}

// deepSeekTower lists DeepSeek-OCR 2's: SAM's encoder with attention over windows and a neck that cuts its patches to a
// sixteenth, and behind it a decoder of Qwen2's kind, whose queries are learned.
func deepSeekTower(sam, encoder keys, v Vision) []Module {
	l := listed("model.vision_tower.sam_encoder.")
	samModules(l, sam)
	c, f, d := int64(encoder.number("hidden_size")), int64(encoder.number("intermediate_size")), int64(v.OutHiddenSize)
	heads := encoder.number("num_attention_heads")
	kv := c / int64(max(heads, 1)) * int64(encoder.or("num_key_value_heads", heads))
	l.prefix = "model.vision_tower.vision_encoder."
	for i := range min(encoder.number("num_hidden_layers"), mostLayers) {
		l.at("layers.%d.", i)
		l.linear(c, c, c, "self_attn.q_proj")
		l.linear(kv, c, kv, "self_attn.k_proj", "self_attn.v_proj")
		l.linear(c, c, 0, "self_attn.o_proj")
		l.linear(f, c, 0, "mlp.gate_proj", "mlp.up_proj")
		l.linear(c, f, 0, "mlp.down_proj")
		l.plain("norms", 2*c)
	}
	l.at("")
	l.plain("norm", c)
	l.prefix = "model.vision_tower."
	l.add(Embedding, "query_768_resolution", 144, c, 0)
	l.add(Embedding, "query_1024_resolution", 256, c, 0)
	l.part, l.prefix = MergerPart, "model."
	l.linear(d, c, d, "multi_modal_projector")
	l.plain("view_separator", d)
	return l.list
}

// samModules lists SAM's encoder.
func samModules(l *inventory, k keys) {
	c, patch := int64(k.number("hidden_size")), int64(k.number("patch_size"))
	side, head := int64(k.number("image_size"))/max(patch, 1), c/int64(max(k.number("num_attention_heads"), 1))
	f := int64(k.optional("mlp_dim"))
	if f == 0 {
		f = int64(float64(c) * k.fraction("mlp_ratio"))
	}
	l.add(Convolution, "patch_embed.projection", c, int64(k.number("num_channels"))*patch*patch, c)
	if k.flag("use_abs_pos") {
		l.plain("pos_embed", side*side*c)
	}
	whole, bias := k.numbers("global_attn_indexes"), int64(0)
	if k.flag("qkv_bias") {
		bias = 3 * c
	}
	for i := range min(k.number("num_hidden_layers"), mostLayers) {
		l.at("layers.%d.", i)
		l.plain("layer_norms", 4*c)
		l.linear(3*c, c, bias, "attn.qkv")
		l.linear(c, c, c, "attn.proj")
		if k.flag("use_rel_pos") {
			sees := int64(k.number("window_size"))
			for _, at := range whole {
				if at == i {
					sees = side
				}
			}
			l.plain("attn.rel_pos", 2*(2*sees-1)*head)
		}
		l.linear(f, c, f, "mlp.lin1")
		l.linear(c, f, c, "mlp.lin2")
	}
	l.at("")
	o := int64(k.number("output_channels"))
	channels := k.sizes("downsample_channels", 1<<16)
	if len(channels) != 2 {
		channels = []int{512, 896}
	}
	l.add(Convolution, "neck.conv1", o, c, 0)
	l.add(Convolution, "neck.conv2", o, 9*o, 0)
	l.plain("neck.layer_norms", 4*o)
	for i, out := range channels {
		l.add(Convolution, fmt.Sprintf("proj.conv%d", i+1), int64(out), 9*o, 0)
		o = int64(out)
	}
}
