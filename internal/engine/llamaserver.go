package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// llamaServer is llama.cpp's server: four slots over one cache, and logits for the slots alone.
var llamaServer = Engine{
	Name: "llama-server", Product: "llama.cpp", Version: LlamaVersion, Page: "llama.cpp v0.5.0",
	Least: 50, CPU: true, Weights: GGUF, Ladder: llamaLadder, Offload: Layers,
	Context: llamaLeastContext, Adapts: true, Pooled: true,
	Cold: true, Shared: "q4_k_m",
	Savings:  []Saving{SmallBatches, SmallTower, SmallCache, TowerOnHost, SmallestCache, ExpertsAway},
	Requests: []string{profile.KeySizes, profile.KeyKept, profile.KeyChunk},
	Effects: append([]string{"cache-ram", "model-draft", "quant-draft", "kv-type-draft", "ngl-draft", "spec-draft-n-max",
		"spec-type"}, llamaFlags...),
	Kernels: llamaCPP.Name,
	Estimate: func(m *profile.Model, o Options) (*Memory, error) {
		o.serves = true
		return estimateLlama(m, o)
	},
	Write: writeLlamaServer, ReadLog: ReadLlamaLog, ReadRates: ReadLlamaRates,
	Spellings: llamaSpellings(), Shorts: llamaShorts, Switches: llamaSwitches,
	Opposites: llamaOpposites, Variables: llamaVariables, Unreckoned: llamaUnreckoned,
}

// The arguments of llama.cpp's programs (common/arg.cpp of v0.5.0) that decide memory and are not reckoned, those that
// take no value, and short names.
var (
	llamaUnreckoned = []string{"spec-draft-hf", "hf-repo-draft", "spec-draft-override-tensor", "spec-draft-cpu-moe",
		"spec-draft-n-cpu-moe", "spec-draft-device", "lora", "lora-scaled", "control-vector", "control-vector-scaled",
		"mmproj-device", "rpc",
		"models-preset", "models-max", "model-url", "mmproj-url", "direct-io", "fit-ctx", "fit-target"}
	llamaSwitches = []string{"no-warmup", "cpu-moe", "no-mmap", "mlock", "no-device", "no-repack",
		"no-kv-offload", "no-mmproj",
		"no-mmproj-offload", "no-op-offload", "swa-full", "kv-unified",
		"direct-io", "embeddings", "embedding"}
	// switches that turn on what is on unless told otherwise, or off what is off, by those that are known
	llamaOpposites = map[string]string{"warmup": "no-warmup", "mmap": "no-mmap", "repack": "no-repack",
		"kv-offload": "no-kv-offload", "mmproj-auto": "no-mmproj", "mmproj-offload": "no-mmproj-offload",
		"op-offload": "no-op-offload", "no-kv-unified": "kv-unified", "no-direct-io": "direct-io"}
	// variables of the environment (LLAMA_ARG_ before them) whose names differ from the arguments'
	llamaVariables = map[string]string{"n-parallel": "parallel", "batch": "batch-size", "ubatch": "ubatch-size",
		"n-gpu-layers-draft": "gpu-layers-draft", "spec-draft-cache-type-k": "spec-draft-type-k",
		"spec-draft-cache-type-v": "spec-draft-type-v"}
	llamaShorts = map[string]string{"m": "model", "mm": "mmproj", "mmu": "mmproj-url", "mu": "model-url", "hf": "hf-repo",
		"hfr": "hf-repo", "c": "ctx-size", "b": "batch-size", "ub": "ubatch-size", "np": "parallel", "fa": "flash-attn",
		"ctk": "cache-type-k", "ctv": "cache-type-v", "cram": "cache-ram", "kvu": "kv-unified", "nkvo": "no-kv-offload",
		"nr": "no-repack", "kvo": "kv-offload", "no-kvu": "no-kv-unified", "lm": "load-mode", "dev": "device", "ot": "override-tensor", "cmoe": "cpu-moe",
		"ncmoe": "n-cpu-moe", "ncffn": "n-cpu-ffn", "ngl": "n-gpu-layers", "sm": "split-mode", "ts": "tensor-split", "md": "model-draft", "ngld": "gpu-layers-draft",
		"ctkd": "cache-type-k-draft", "ctvd": "cache-type-v-draft",
		"mg": "main-gpu", "mmdev": "mmproj-device", "fitc": "fit-ctx", "fitt": "fit-target", "no-mmproj-auto": "no-mmproj"}
)

// llamaSpellings are llama-server's arguments by long name.
func llamaSpellings() map[string][]spelling {
	m := plainly(map[string]string{"ctx-size": "ctx", "parallel": "parallel", "batch-size": "batch",
		"ubatch-size": "ubatch",
		"flash-attn":  "flash-attention", "no-warmup": "no-warmup",
		"image-max-tokens": "image-max-tokens", "cache-ram": "cache-ram", "cpu-moe": "cpu-moe", "n-cpu-moe": "n-cpu-moe",
		"n-cpu-ffn": "n-cpu-ffn", "override-tensor": "override-tensor", "no-repack": "no-repack",
		"no-kv-offload": "no-kv-offload", "no-mmproj-offload": "no-mmproj-offload", "no-op-offload": "no-op-offload",
		"swa-full": "swa-full", "kv-unified": "kv-unified", "tensor-split": "tensor-split",
		"split-mode": "split-mode", "main-gpu": "main-gpu",
		"load-mode": "load-mode", "embeddings": "embeddings", "embedding": "embeddings",
		"spec-type": "spec-type", "spec-draft-n-max": "spec-draft-n-max"})
	m["cache-type-k"] = []spelling{{"kv-type", keysOf}}
	m["cache-type-v"] = []spelling{{"kv-type", valuesOf}}
	m["parallel"] = []spelling{{"parallel", ownSlots}}
	m["n-gpu-layers"] = []spelling{{"ngl", allLayers}}
	m["gpu-layers"] = m["n-gpu-layers"]
	m["model"] = []spelling{{"model", fileHere}, {"quant", quantOf}}
	m["mmproj"] = []spelling{{"mmproj", fileHere}, {"mmproj-quant", towerQuant}}
	for name, mode := range map[string]string{"no-mmap": "none", "mlock": "mmap+mlock"} {
		m[name] = []spelling{{"load-mode", switched(mode)}}
	}
	m["device"] = []spelling{{"device", nil}}
	m["no-device"] = []spelling{{"backend", switched("cpu")}}
	m["no-mmproj"] = []spelling{{"image", switched("none")}}
	for _, name := range []string{"spec-draft-model", "model-draft"} {
		m[name] = []spelling{{"model-draft", fileNeeded}}
	}
	for k, v := range map[string]string{"cache-type-k-draft": "cache-type-v-draft",
		"spec-draft-type-k": "spec-draft-type-v"} {
		m[k], m[v] = []spelling{{"kv-type-draft", keysOf}}, []spelling{{"kv-type-draft", valuesOf}}
	}
	for _, name := range []string{"spec-draft-ngl", "gpu-layers-draft", "n-gpu-layers-draft"} {
		m[name] = []spelling{{"ngl-draft", allLayers}}
	}
	m["hf-repo"] = []spelling{{"model", repository}, {"quant", tag}}
	return m
}

// llamaSettings are llama-server's, by long argument name without dashes.
func (s *Settings) llamaSettings() (lines, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	path, projector := s.Path, s.Projector
	if path == "" {
		path = s.Name + ".gguf"
	}
	if projector == "" && pixels > 0 {
		projector = "mmproj-" + s.Name + ".gguf"
	}
	l.add("model", path, "GGUF of the decoder")
	l.add("mmproj", projector, "GGUF of the vision tower")
	sequences := max(s.Sequences, 1)
	l.add("ctx-size", s.Context*sequences, "tokens of all slots together, %d each", s.Context)
	l.add("parallel", sequences, "slots; left out, the server makes 4")
	l.add("ubatch-size", s.Batch, "tokens computed at once; the compute buffer grows with it")
	switch {
	case s.GPU == nil:
		l = append(l, setting{"n-gpu-layers", "0", "no card is given"})
	case s.FullOff:
		l.add("n-gpu-layers", "all", "every layer fits the card")
	default:
		l = append(l, setting{"n-gpu-layers", fmt.Sprint(s.GPULayers), "layers that fit the card"})
	}
	l = append(l, s.splitLines()...)
	l.add("threads", s.Threads, "%s", s.ThreadsWhy)
	flash := s.Flash
	if flash == "" {
		flash = "on"
	}
	l.add("flash-attn", flash, "without it scores take memory with the square of the context")
	l.add("n-cpu-moe", s.ExpertLayers, "layers whose experts lie on the host; the rest of them lies on the card")
	l = append(l, switchedOn("no-mmproj-offload", s.TowerOnHost, "images are encoded by the processor")...)
	if s.KVType != "" {
		l.add("cache-type-k", strings.ToLower(s.KVType), "type of the cached keys")
		l.add("cache-type-v", strings.ToLower(s.KVType), "type of the cached values")
	}
	if pixels > 0 {
		side := s.Model.Vision.PatchSize * s.Model.Vision.SpatialMergeSize
		l.add("image-max-tokens", pixels/(side*side), "larger images are scaled down to the size that was budgeted")
		if warm := llamaWarmupSide * side; pixels < warm*warm {
			l.add("no-warmup", true, "the warm-up image of %dx%d would reserve more than was budgeted", warm, warm)
		}
	}
	l.add("load-mode", s.LoadMode, "weights are read once; mapped, the file's pages lie beside copies in the CPU's layout")
	l = append(l, setting{"cache-ram", 0, "prompts kept on the host were not budgeted; left out, up to 8,192 MiB of them"})
	// Fitting by itself would override layers and context that were budgeted together.
	l.add("fit", "off", "layers and context are set above")
	return l, nil
}

// splitLines say over which of several cards the layers go: left out, llama-server takes all that it finds.
func (s *Settings) splitLines() lines {
	if s.GPU == nil || s.Cards == 0 {
		return nil
	}
	var l lines
	switch first := len(s.Devices) == 0 || s.Devices[0] == "CUDA0"; {
	case s.Cards == 1 && first:
		return lines{{"split-mode", "none", "the first card holds all; left out, every card of the machine gets a part"}}
	case s.Cards == 1:
		return lines{{"device", s.Devices[0], "the card with the most room holds all, the vision tower too (llama-server " +
			"--list-devices shows it by this name); left out, every card of the machine gets a part"}}
	case !s.AllCards && len(s.Devices) > 0:
		l = append(l, setting{"device", strings.Join(s.Devices, ","), "layers go to them in this order, the vision tower " +
			"to the first"})
	}
	shares := s.Shares
	if len(shares) == 0 {
		shares = slices.Repeat([]float64{1}, s.Cards)
	}
	var parts []string
	for _, n := range shares {
		parts = append(parts, fmt.Sprint(n))
	}
	why := "layers on each card, the head counting as one, as was reckoned; left out, by what is free on each"
	return append(l, setting{"tensor-split", strings.Join(parts, ","), why})
}

// DeviceName is what llama-server calls a card.
func DeviceName(g *profile.GPU) string {
	name := map[string]string{"": "CUDA", "rocm": "ROCm", "vulkan": "Vulkan", "sycl": "SYCL", "metal": "MTL"}[g.Backend]
	return fmt.Sprintf("%s%d", name, g.Number)
}

// switchedOn is a switch that is written only where it is on.
func switchedOn(key string, on bool, why string) lines {
	if !on {
		return nil
	}
	return lines{{key, true, why}}
}

// NamedBuild is a build that settings can be written for, that of llama-server in PATH for auto: the arguments of b8672
// and later are known.
func NamedBuild(build string) (string, error) {
	var err error
	if build == "auto" {
		if build, err = InstalledLlama(); err != nil {
			return "", fmt.Errorf("--build auto: %w", err)
		}
	}
	if _, err := buildRules(build); err != nil {
		return "", fmt.Errorf("--%w", err)
	}
	if n := buildNumber(build); n > 0 && n < firstAdvised {
		return "", fmt.Errorf("--build %s: what builds before b%d take is not known; estimate knows what they reserve",
			build, firstAdvised)
	}
	return build, nil
}

const firstAdvised = 8672

// earlier spells settings as builds without modes of loading took them.
func earlier(l lines) lines {
	l = slices.Clone(l)
	for i, x := range l {
		if x.key == "load-mode" && x.value == "none" {
			l[i] = setting{"no-mmap", true, x.why}
		}
	}
	return l
}

func writeLlamaServer(s Settings) (*Bundle, error) {
	l, err := s.llamaSettings()
	if err != nil {
		return nil, err
	}
	for _, x := range append(l, setting{"alias", s.Name, ""}) {
		if strings.ContainsAny(plain(x.value), "#;]") {
			return nil, fmt.Errorf("settings for llama-server: %s %q: an INI value ends at # and ;, a section at ]", x.key,
				plain(x.value))
		}
	}
	b := Bundle{settings: l}
	if s.Build != "" && buildNumber(s.Build) > 0 && buildNumber(s.Build) < firstAutoLoad {
		l = earlier(l)
	}
	b.arguments = l
	b.Files = []File{
		{"llama-server.args", argumentText(s.spelled, l)},
		{"llama-server.ini", iniText(s.spelled, s.Name, l)},
	}
	b.Use = []string{"grep -v '^#' llama-server.args | xargs llama-server",
		"llama-server --models-preset llama-server.ini"}
	if len(s.Devices) > 0 && s.GPU != nil {
		if set := TowerStays(s.Build, s.Devices[0]); set != "" {
			b.Notes = append(b.Notes, set+" in its environment: this build puts the vision tower on the first card otherwise")
		}
	}
	return &b, nil
}
