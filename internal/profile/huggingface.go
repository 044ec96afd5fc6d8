package profile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A config.json names its class (model_type), and the class decides what an absent key means. reading is how a class
// becomes a Model: which decoder it has, and which tower.
type reading struct {
	decoder decoderReading
	tower   func(k keys, m *Model) // nil: a decoder alone
	named   bool                   // any decoder may stand here: text_config names its class
	// of a configuration whose parts lie a level deeper, as the thinker in Qwen3-Omni
	inside string
}

// readings are the classes that are read, by model_type. Classes that transformers has and that are not here are
// refused.
func readings() map[string]reading {
	plain := func(architecture string, v Variant) decoderReading {
		v.Architecture = architecture
		return decoderReading{variant: v}
	}
	headed := Variant{PlainHeads: true}
	list := map[string]reading{
		"qwen2": {decoder: decoderReading{variant: Variant{Architecture: "qwen2", PlainHeads: true,
			ProjectionBias: true}}},
		"qwen3":       {decoder: plain("qwen3", Variant{})},
		"qwen3_moe":   {decoder: plain("qwen3moe", Variant{})},
		"llama":       {decoder: plain("llama", headed)},
		"mistral":     {decoder: plain("llama", headed)},
		"ministral3":  {decoder: plain("mistral3", headed)},
		"mixtral":     {decoder: plain("llama", headed)},
		"gemma2":      {decoder: plain("gemma2", Variant{PlainHeads: true, PostNorms: true})},
		"gemma3_text": {decoder: plain("gemma3", Variant{PostNorms: true})},
		"deepseek_v2": {decoder: plain("deepseek2", headed)},
		"deepseek_v3": {decoder: plain("deepseek2", headed)},
		"kimi_k2":     {decoder: plain("deepseek2", headed)},
		"gpt_oss": {decoder: plain("gpt-oss", Variant{PlainHeads: true, ProjectionBias: true, OutputBias: true, Sinks: true,
			ExpertBias: true})},
		"llama4_text":         {decoder: plain("llama4", headed)},
		"gemma4_text":         {decoder: plain("gemma4", Variant{PostNorms: true})},
		"gemma4_unified_text": {decoder: plain("gemma4", Variant{PostNorms: true})},
		"glm4v_text":          {decoder: plain("glm4", Variant{PlainHeads: true, ProjectionBias: true, PostNorms: true})},
		"glm4v_moe_text":      {decoder: plain("glm4moe", headed)},
		"deepseek_ocr2_text":  {decoder: plain("deepseek2-ocr", headed)},
		"qwen3_5_text":        {decoder: plain("qwen35", Variant{OutputGate: true})},
		"qwen3_5_moe_text":    {decoder: plain("qwen35moe", Variant{OutputGate: true})},
	}
	with := func(kind, decoder string, tower func(keys, *Model)) {
		r := list[decoder]
		r.tower = tower
		list[kind] = r
	}
	with("qwen2_vl", "qwen2", qwen2Tower)
	with("qwen2_5_vl", "qwen2", qwen25Tower)
	for kind, architecture := range map[string]string{"qwen2_vl": "qwen2vl", "qwen2_5_vl": "qwen2vl"} {
		r := list[kind]
		r.decoder.variant.Architecture = architecture
		list[kind] = r
	}
	list["qwen3_vl"] = reading{decoder: decoderReading{own: true}, tower: qwen3Tower}
	list["qwen3_vl_moe"] = list["qwen3_vl"]
	list["qwen3_omni_moe"] = reading{decoder: decoderReading{own: true}, tower: qwen3Tower, inside: "thinker_config"}
	with("qwen3_5", "qwen3_5_text", qwen3Tower)
	with("qwen3_5_moe", "qwen3_5_moe_text", qwen3Tower)
	with("gemma3", "gemma3_text", gemma3Tower)
	for kind, tower := range listedTowers {
		with(kind, kind+"_text", tower)
	}
	for kind, tower := range map[string]func(keys, *Model){"internvl": internTower, "mistral3": pixtralTower,
		"smolvlm": ideficsTower, "idefics3": ideficsTower, "glm46v": readGLM, "minicpmv4_6": readMiniCPM,
		"minicpmv4_7": readMiniCPM} {
		list[kind] = reading{named: true, tower: tower}
	}
	return list
}

// ModelTypes are the model types whose config.json is read.
func ModelTypes() []string { return slices.Sorted(maps.Keys(readings())) }

// asClass are model types that other repositories define, and the class of transformers with the same shape.
var asClass = map[string]string{"kimi_k2": "deepseek_v3"}

// DecodeHuggingFace reads a config.json: the decoder, its tower where it has one, the type and the quantisation of its
// weights. Keys that do not decide memory are passed over; one that does and is absent takes the default of its class,
// which Model.Notes says. config.json says nothing of preprocessing, so the limits are those of the published
// processors, marked as assumed.
func DecodeHuggingFace(name string, data []byte) (Model, error) {
	k, err := openConfig(name, data)
	if err != nil {
		return Model{}, err
	}
	how, known := readings()[k.kind]
	if !known {
		own := ""
		if k.has("auto_map") {
			own = " (its class is code of its own repository, which no release has; a conversion for transformers may be)"
		}
		return Model{}, fmt.Errorf("%s: model_type %q is not known%s: want one of %s", name, k.kind, own,
			strings.Join(ModelTypes(), ", "))
	}
	m := Model{Schema: ModelSchema, Name: name, Kind: k.kind, Source: Sources{"default": name}}
	if root := k; how.inside != "" {
		k = k.part(how.inside)
		k.outer = &root
	}
	how.read(k, &m)
	if k.err != nil {
		return Model{}, k.err
	}
	if note := k.defaultedNote(); note != "" {
		m.Notes = append(m.Notes, note)
	}
	if err := m.Validate(); err != nil {
		return Model{}, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// read fills in the model from its configuration.
func (r reading) read(k keys, m *Model) {
	if to, ok := asClass[k.kind]; ok {
		k.kind = to
	}
	text := k
	if _, inParts := k.table.Classes[k.kind].Parts["text_config"]; inParts {
		text = k.part("text_config")
		if _, own := k.given["text_config"]; !own && len(k.given) > 3 && strings.HasPrefix(k.kind, "qwen2") {
			text.given = k.given // before transformers 4.52 the decoder's keys of Qwen2-VL stood outside
		}
	}
	if r.named {
		if text.given == nil && k.err == nil {
			k.reader.err = fmt.Errorf("%s: text_config is missing, which names the decoder's class", k.name)
		}
		kind := text.kind
		if given := text.text("model_type"); given != "" {
			kind = given
		}
		named, known := readings()[kind]
		if (!known || named.tower != nil) && k.err == nil {
			k.reader.err = fmt.Errorf("%s: text_config.model_type %q is not known", k.name, kind)
		}
		if k.err != nil {
			return
		}
		r.decoder = named.decoder
	}
	m.Text = r.decoder.read(text)
	m.Text.TiedEmbeddings = k.flag("tie_word_embeddings")
	if k.kind == "llama4" { // whose decoder has its own head
		m.Text.TiedEmbeddings = text.flag("tie_word_embeddings")
	}
	places := []keys{k, text}
	if k.outer != nil {
		places = []keys{*k.outer, k, text}
	}
	m.DType, m.EndTokens = declaredType(places...), max(text.count("eos_token_id"), k.count("eos_token_id"))
	m.Quantisation = quantisation(places...)
	if r.tower != nil && k.without("vision_config") {
		m.Notes = append(m.Notes, k.path+"vision_config is absent: the model is counted without a tower, as its class does")
	} else if r.tower != nil {
		tower := k.part("vision_config")
		tower.outer = &k
		r.tower(tower, m)
	}
	if m.Kind == "qwen3_omni_moe" {
		a := k.part("audio_config")
		m.Audio = &Audio{Layers: a.number("encoder_layers"), HiddenSize: a.number("d_model"),
			MLP:     a.number("encoder_ffn_dim"),
			MelBins: a.number("num_mel_bins"), Channels: a.number("downsample_hidden_size"), Output: a.number("output_dim")}
		m.Audio.Layers = min(m.Audio.Layers, mostLayers)
		m.Notes = append(m.Notes, "of Qwen3-Omni the thinker is counted, its encoder of sound with the tower; "+
			"the talker and the decoder of speech are not")
	}
}

// declaredType is the type that the checkpoint declares, "" where it declares none.
func declaredType(places ...keys) DType {
	for _, part := range places {
		for _, key := range []string{"dtype", "torch_dtype"} {
			if d, ok := TorchDType(part.text(key)); ok {
				return d
			}
		}
	}
	return ""
}

// TorchDType reads a type as PyTorch or its users spell it.
func TorchDType(name string) (DType, bool) {
	d, ok := map[string]DType{
		"float32": FP32, "fp32": FP32, "f32": FP32, "float16": FP16, "fp16": FP16, "f16": FP16, "half": FP16,
		"bfloat16": BF16, "bf16": BF16,
	}[strings.TrimPrefix(strings.ToLower(name), "torch.")]
	return d, ok
}

// DecodeAnyModel reads a config.json or a model document of this package's own schema.
func DecodeAnyModel(name string, data []byte) (Model, error) {
	if LooksLikeHuggingFace(data) {
		return DecodeHuggingFace(name, data)
	}
	var foreign struct {
		Schema string `json:"schema"`
		Width  int    `json:"dim"`
		Layers int    `json:"n_layers"`
	}
	if json.Unmarshal(plainJSON(data), &foreign) == nil && foreign.Schema == "" {
		what := "has neither model_type, as a Hugging Face config.json, nor schema, as a model file of vlmem"
		if foreign.Width > 0 && foreign.Layers > 0 {
			what = "is a params.json of Mistral's or Meta's own format: want the config.json of the Hugging Face repository"
		}
		return Model{}, fmt.Errorf("%s: %s", name, what)
	}
	return DecodeModel(name, data)
}

// LooksLikeHuggingFace tells a Hugging Face config.json from a model document of this package's own schema.
func LooksLikeHuggingFace(data []byte) bool {
	var c struct {
		Schema        string `json:"schema"`
		ModelType     string `json:"model_type"`
		Architectures []any  `json:"architectures"`
	}
	if json.Unmarshal(plainJSON(data), &c) != nil {
		// A broken config.json still deserves a message about JSON.
		return bytes.Contains(data, []byte(`"model_type"`))
	}
	return c.Schema == "" && (c.ModelType != "" || len(c.Architectures) > 0)
}

// publishedPreprocess is the limits of the published Qwen3-VL image and video processors, as in the built-in models.
var publishedPreprocess = Preprocess{
	MinPixels: 65536, MaxPixels: 16777216, VideoMinPixels: 4096, VideoMaxPixels: 25165824,
	VideoFPS: 2, VideoMinFrames: 4, VideoMaxFrames: 768,
}
