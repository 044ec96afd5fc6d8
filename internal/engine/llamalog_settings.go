package engine

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
)

// ErrNoSettings means that a log does not say what was loaded and how.
var ErrNoSettings = errors.New("the log says neither model nor context; llama.cpp prints them with -lv 4")

// Engine is whose log it is.
func (l *LlamaLog) Engine() string {
	if l.Server {
		return llamaServer.Name
	}
	return llamaCPP.Name
}

// Header is a weights file's header as far as a log dumps it: enough for the decoder's shape, without its tensors.
func (l *LlamaLog) Header() (*weights.GGUF, error) {
	g := &weights.GGUF{Strings: map[string]string{}, Numbers: map[string]float64{}}
	for name, text := range l.Texts {
		key, found := strings.CutPrefix(name, "kv.")
		if !found {
			continue
		}
		g.Strings[key] = text
		if n, ok := l.Numbers[name]; ok {
			g.Numbers[key] = n
		}
	}
	vocabulary, width := l.Numbers["n_vocab"], l.Numbers["n_embd"]
	if g.Strings["general.architecture"] == "" || vocabulary < 1 || width < 1 {
		return nil, ErrNoSettings
	}
	g.Tensors = []weights.Tensor{{Name: "token_embd.weight", Shape: []int64{int64(width), int64(vocabulary)}}}
	text, _, err := g.Text()
	if err != nil {
		return nil, err
	}
	if int(l.Numbers["tensors"]) != len(decoderTensors(&text)) { // the head has a table of its own
		g.Tensors = append(g.Tensors, weights.Tensor{Name: "output.weight"})
	}
	return g, nil
}

// fileTypes are llama.cpp's names of file types whose own differ from --quant's.
var fileTypes = map[string]string{"all f32": "f32"}

var fileTypeSize = regexp.MustCompile(` - (small|medium|large|[0-9.]+ bpw).*`)

// quant is the recipe of the file that a log names.
func (l *LlamaLog) quant() string {
	name := strings.ToLower(strings.TrimPrefix(l.Texts["file type"], "(guessed) "))
	if other := fileTypes[name]; other != "" {
		return other
	}
	m := fileTypeSize.FindStringSubmatch(name)
	name = fileTypeSize.ReplaceAllString(name, "")
	if m != nil && len(m[1]) > 3 && name != "q2_k" && name != "q6_k" && strings.HasSuffix(name, "_k") {
		name += "_" + m[1][:1]
	}
	return name
}

// Options are the settings that a log tells of a server or program.
func (l *LlamaLog) Options() (Options, error) {
	if l.Numbers["n_ctx"] < 1 {
		return Options{}, ErrNoSettings
	}
	number := func(name string) int { return int(min(l.Numbers[name], 1<<30)) }
	o := Options{
		Quant: l.quant(), Context: number("n_ctx"), Batch: number("n_batch"), UBatch: number("n_ubatch"),
		Sequences: max(number("n_seq_max"), 1), Unified: l.Texts["kv_unified"] == "true", Outputs: number("n_outputs_max"),
		KVType: l.Texts["type_k"], Device: "cpu", FlashAttention: map[string]string{"enabled": "on", "disabled": "off",
			"1": "on", "0": "off"}[l.Texts["flash_attn"]],
	}
	if v := l.Texts["type_v"]; v != o.KVType {
		o.KVType += "," + v
	}
	if l.Numbers["cards"] > 0 {
		o.Device, o.HostLayers = "gpu", max(0, number("layers")-number("offloaded"))
	}
	if l.Texts["tower"] == "" {
		o.Image = &Image{}
	}
	o.Llama = l.llama()
	return o, nil
}

// llama are the settings that llama.cpp alone has.
func (l *LlamaLog) llama() LlamaOptions {
	o := LlamaOptions{Cards: int(l.Numbers["cards"]), CPU: l.cpu(), NoRepack: true}
	switch n := int(l.Numbers["build"]); {
	case n > 0:
		o.Build = "b" + strconv.Itoa(n)
	case l.Numbers["inputs"] == 9 && l.Numbers["n_swa"] == 0: // mixed batches have three more
		o.Build = "b" + strconv.Itoa(epochs[len(epochs)-1].first)
	case l.Numbers["inputs"] == 6 && l.Numbers["n_swa"] == 0:
		o.Build = LlamaVersion
	}
	for i := range o.Cards { // as they are shared out unless told
		o.Shares = append(o.Shares, l.Numbers["free."+strconv.Itoa(i)])
	}
	if mode := l.Texts["load_mode"]; slices.Contains(llamaLoadModes, mode) {
		o.LoadMode = mode
	}
	onHost := l.Numbers["cards"] > 0
	for _, i := range l.Items {
		if i.Name == RepackedWeights {
			o.NoRepack = false
		}
		if i.Name == KVCache && i.Where != "host" {
			onHost = false
		}
		device := strings.ToLower(i.Buffer)
		for _, b := range LlamaBackends {
			if i.Where != "host" && strings.HasPrefix(device, b) {
				o.Backend = b
			}
		}
	}
	o.NoKV = onHost && l.Numbers["offloaded"] > 1
	o.NoTower = strings.HasPrefix(l.Texts["tower"], "CPU")
	return o
}

// cpu is the CPU whose features a log lists, nil where it lists none.
func (l *LlamaLog) cpu() *profile.CPU {
	var isa []string
	for name, as := range map[string][]string{"AVX2": {"avx2"}, "AVX512": {"avx512f", "avx512bw"},
		"AMX_INT8": {"amx_int8"}, "AVX512_VNNI": {"avx512_vnni"}, "DOTPROD": {"asimddp"}, "MATMUL_INT8": {"i8mm"}} {
		if l.Texts["cpu."+name] != "" {
			isa = append(isa, as...)
		}
	}
	if len(isa) == 0 {
		return nil
	}
	slices.Sort(isa)
	return &profile.CPU{Model: "the CPU of the log", ISA: isa}
}
