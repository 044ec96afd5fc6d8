package profile

import "fmt"

// siglip lists a plain vision transformer with learned positions, and the projection that joins it to the decoder: of
// Gemma a mean over neighbouring patches, a norm, and a matrix that is no linear layer; of Idefics a matrix over
// neighbouring patches side by side.
func (v *Vision) siglip(l *inventory) {
	c, f := int64(v.HiddenSize), int64(v.IntermediateSize)
	side := int64(v.ImageSize / max(v.PatchSize, 1))
	l.part, l.prefix = VisionCore, "model.vision_tower."
	l.add(Convolution, "embeddings.patch_embedding", c, int64(v.InChannels*v.PatchSize*v.PatchSize), c)
	l.add(Embedding, "embeddings.position_embedding", side*side, c, 0)
	for i := range v.Depth {
		l.at("encoder.layers.%d.", i)
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			l.add(LinearModule, "self_attn."+name, c, c, c)
		}
		l.add(LinearModule, "mlp.fc1", f, c, f)
		l.add(LinearModule, "mlp.fc2", c, f, c)
		l.plain("layer_norm1", 2*c)
		l.plain("layer_norm2", 2*c)
	}
	l.at("")
	l.plain("post_layernorm", 2*c)
	if v.PoolingHead {
		l.plain("head.probe", c)
		l.plain("head.attention.in_proj", 3*c*c+3*c) // a parameter, not a linear layer
		l.add(LinearModule, "head.attention.out_proj", c, c, c)
		l.plain("head.layernorm", 2*c)
		l.add(LinearModule, "head.mlp.fc1", f, c, f)
		l.add(LinearModule, "head.mlp.fc2", c, f, c)
	}
	l.part = MergerPart
	if v.Kind == IdeficsTower {
		l.prefix = "model.connector."
		l.add(LinearModule, "modality_projection.proj", int64(v.OutHiddenSize), v.merged(), 0)
		return
	}
	l.prefix = "model.multi_modal_projector."
	l.plain("mm_soft_emb_norm", c)
	l.plain("mm_input_projection_weight", c*int64(v.OutHiddenSize))
}

// merged is the width of neighbouring patches side by side.
func (v *Vision) merged() int64 { return int64(v.HiddenSize * v.SpatialMergeSize * v.SpatialMergeSize) }

// intern lists InternVL's tower: scales after attention and MLP, one token beside the patches, and a projection of two
// layers over neighbouring patches side by side.
func (v *Vision) intern(l *inventory) {
	c, f, d := int64(v.HiddenSize), int64(v.IntermediateSize), int64(v.OutHiddenSize)
	norm, bias := 2*c, int64(0)
	if v.PlainNorms {
		norm = c
	}
	if v.ProjectionBias {
		bias = c
	}
	l.part, l.prefix = VisionCore, "model.vision_tower."
	l.add(Convolution, "embeddings.patch_embeddings.projection", c, int64(v.InChannels*v.PatchSize*v.PatchSize), c)
	l.plain("embeddings.cls_token", c)
	l.plain("embeddings.position_embeddings", int64(v.PositionEmbeddings)*c)
	for i := range v.Depth {
		l.at("encoder.layer.%d.", i)
		for _, name := range []string{"q_proj", "k_proj", "v_proj"} {
			l.add(LinearModule, "attention."+name, c, c, bias)
		}
		l.add(LinearModule, "attention.projection_layer", c, c, c)
		l.add(LinearModule, "mlp.fc1", f, c, f)
		l.add(LinearModule, "mlp.fc2", c, f, c)
		l.plain("layernorms", 2*norm+2*c) // and lambda_1, lambda_2
		if v.HeadNorms {
			l.plain("attention.norms", 2*c)
		}
	}
	l.at("")
	if v.LastNorm {
		l.plain("layernorm", 2*c)
	}
	l.part, l.prefix = MergerPart, "model.multi_modal_projector."
	l.plain("layer_norm", 2*v.merged())
	l.add(LinearModule, "linear_1", d, v.merged(), d)
	l.add(LinearModule, "linear_2", d, d, d)
}

// pixtral lists Mistral's tower: gated MLPs, rotary positions, no biases; and a projection behind a merger of
// neighbouring patches.
func (v *Vision) pixtral(l *inventory) {
	c, f, d := int64(v.HiddenSize), int64(v.IntermediateSize), int64(v.OutHiddenSize)
	l.part, l.prefix = VisionCore, "model.vision_tower."
	l.add(Convolution, "patch_conv", c, int64(v.InChannels*v.PatchSize*v.PatchSize), 0)
	l.plain("ln_pre", c)
	for i := range v.Depth {
		l.at("transformer.layers.%d.", i)
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
			l.add(LinearModule, "attention."+name, c, c, 0)
		}
		l.add(LinearModule, "feed_forward.gate_proj", f, c, 0)
		l.add(LinearModule, "feed_forward.up_proj", f, c, 0)
		l.add(LinearModule, "feed_forward.down_proj", c, f, 0)
		l.plain("norms", 2*c)
	}
	l.at("")
	var bias int64
	if v.JoinBias {
		bias = d
	}
	l.part, l.prefix = MergerPart, "model.multi_modal_projector."
	l.plain("norm", c)
	l.add(LinearModule, "patch_merger.merging_layer", c, v.merged(), 0)
	l.add(LinearModule, "linear_1", d, c, bias)
	l.add(LinearModule, "linear_2", d, d, bias)
}

// modules of an encoder of sound: three convolutions of 3 x 3 that halve both sides, a transformer with biases, and two
// layers to the decoder's width. It counts with the tower.
func (a *Audio) modules(l *inventory) {
	c, f, h, out := int64(a.HiddenSize), int64(a.MLP), int64(a.Channels), int64(a.Output)
	bins := int64(a.MelBins)
	l.part = VisionCore
	l.at("")
	for i, in := range []int64{1, h, h} {
		l.add(Convolution, fmt.Sprintf("conv2d%d", i+1), h, 9*in, h)
		bins = (bins + 1) / 2
	}
	l.add(LinearModule, "conv_out", c, h*bins, 0)
	for i := range a.Layers {
		l.at("layers.%d.", i)
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			l.add(LinearModule, "self_attn."+name, c, c, c)
		}
		l.add(LinearModule, "fc1", f, c, f)
		l.add(LinearModule, "fc2", c, f, c)
		l.plain("layernorms", 4*c)
	}
	l.at("")
	l.plain("ln_post", 2*c)
	l.add(LinearModule, "proj1", c, c, c)
	l.add(LinearModule, "proj2", out, c, out)
}
