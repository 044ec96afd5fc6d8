package advise_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// ampere is a card that every engine takes.
func ampere(memory units.Bytes) profile.GPU {
	return profile.GPU{Name: "ampere", ComputeCapability: "8.6", MemoryBytes: memory, SMCount: 82}
}

func deployInputs(t *testing.T, model string, card *profile.GPU) advise.Inputs {
	t.Helper()
	h, err := profiles.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	m, err := profiles.Model(model)
	if err != nil {
		t.Fatal(err)
	}
	if card != nil {
		h.GPUs = []profile.GPU{*card}
	}
	return advise.Inputs{Hardware: h, Model: m, Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280,
		ImageHeight: 720, Concurrency: 1}}
}

func TestDeploymentsFitAtTheHighEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for seconds")
	}
	for _, target := range []string{"vllm", "sglang", "llama-server", "ollama", "transformers"} {
		for _, gib := range []int64{2, 4, 6, 8, 12, 24} {
			card := ampere(units.Bytes(gib) * units.GiB)
			in := deployInputs(t, "qwen3-vl-4b", &card)
			d, err := advise.Deploy(target, in)
			var short *advise.Shortfall
			if errors.As(err, &short) {
				if gib > 12 || short.Missing <= 0 {
					t.Errorf("%s on %d GiB: %v", target, gib, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			var high units.Bytes
			for _, i := range d.Memory.Items {
				if i.Where == "device" {
					high += i.High
				}
			}
			if exact := target == "vllm" || target == "sglang"; !exact && high-d.Settings.Host > card.MemoryBytes {
				t.Errorf("%s on %d GiB: %s at most on the card", target, gib, high)
			}
			bits := engine.CacheBits(d.Memory.KVType) / 16
			need := in.Model.KVBytesPerToken(profile.FP16) * units.Bytes(d.Limits.ContextTokens)
			if float64(d.Memory.KVCacheBytes) < float64(need)*bits {
				t.Errorf("%s on %d GiB: a cache of %s for %s", target, gib, d.Memory.KVCacheBytes, need)
			}
			if _, err := engine.Write(target, d.Settings); err != nil {
				t.Errorf("%s on %d GiB: %v", target, gib, err)
			}
		}
	}
}

func TestDeployKeepsWhatTheUserGave(t *testing.T) {
	card := ampere(3 * units.GiB)
	in := deployInputs(t, "qwen3-vl-4b", &card)
	in.Limits.ContextTokens, in.Given, in.Precision = 8192, []string{"context", "image", "precision"}, "q4_k_m"
	d, err := advise.Deploy("llama-server", in)
	if err != nil {
		t.Fatal(err)
	}
	if d.Limits != in.Limits || d.Memory.Quant != "q4_k_m" || d.Settings.FullOff ||
		d.Settings.GPULayers >= in.Model.Text.Layers+1 {
		t.Errorf("%+v, %s, %d layers on the card", d.Limits, d.Memory.Quant, d.Settings.GPULayers)
	}
	in.Precision = "f16"
	if _, err := advise.Deploy("llama-server", in); err != nil && !strings.Contains(err.Error(), "missing") {
		t.Error(err)
	}
}

func TestDeployRefusesPascal(t *testing.T) {
	h, err := profiles.Hardware("gtx-1080")
	if err != nil {
		t.Fatal(err)
	}
	_, err = advise.Deploy("vllm", deployInputs(t, "qwen3-vl-2b", &h.GPUs[0]))
	var refusal *engine.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "6.1") {
		t.Errorf("got %v", err)
	}
}

func TestGrowFindsTheEdge(t *testing.T) {
	from := advise.Limits{ContextTokens: 4096, ImageWidth: 640, ImageHeight: 480, Concurrency: 1}
	m, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		fits func(advise.Limits) bool
		want advise.Limits
	}{
		{"context", func(l advise.Limits) bool { return l.ContextTokens <= 10000 }, advise.Limits{9984, 640, 480, 1}},
		{"concurrency", func(l advise.Limits) bool { return l.Concurrency <= 7 }, advise.Limits{4096, 640, 480, 7}},
		{"image", func(l advise.Limits) bool { return l.ImageWidth <= 1000 }, advise.Limits{4096, 960, 720, 1}},
		{"context", func(advise.Limits) bool { return false }, from},
	} {
		got, err := advise.Grow(c.what, from, &m, c.fits)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.what, got, err, c.want)
		}
	}
	if _, err := advise.Grow("speed", from, &m, nil); err == nil {
		t.Error("grew speed")
	}
}

func TestSettleShrinksAndGrowsWhatIsOpen(t *testing.T) {
	in := inputs(t, "qwen3-vl-2b", "i5-10210u")
	in.Limits.ContextTokens = 65536
	if err := in.Settle(""); err != nil || in.Limits.ContextTokens >= 65536 || !in.Fits() {
		t.Fatalf("%+v, %v", in.Limits, err)
	}
	a, err := advise.Make(in)
	if err != nil || !strings.Contains(a.Budget.ContextTokens.Why, "65,536 did not fit") {
		t.Errorf("%q, %v", a.Budget.ContextTokens.Why, err)
	}
	kept := inputs(t, "qwen3-vl-2b", "i5-10210u")
	kept.Limits.ContextTokens, kept.Given = 65536, []string{"context", "image"}
	if err := kept.Settle(""); err != nil || kept.Limits.ContextTokens != 65536 {
		t.Errorf("changed what was given: %+v, %v", kept.Limits, err)
	}
	more := inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080")
	if err := more.Settle("context"); err != nil || more.Limits.ContextTokens <= 2048 {
		t.Fatalf("%+v, %v", more.Limits, err)
	}
	before, after := more, more
	before.Limits.ContextTokens, after.Limits.ContextTokens = 2048, more.Limits.ContextTokens+256
	small, err1 := advise.Make(before)
	edge, err2 := advise.Make(more)
	beyond, err3 := advise.Make(after)
	if err1 != nil || err2 != nil || small.Budget.Precision.Value != edge.Budget.Precision.Value {
		t.Errorf("precision changed from %s to %s: %v, %v", small.Budget.Precision.Value, edge.Budget.Precision.Value, err1,
			err2)
	}
	if err3 == nil && beyond.Budget.Precision.Value == edge.Budget.Precision.Value &&
		beyond.Budget.LayersOnDevice.Value == edge.Budget.LayersOnDevice.Value &&
		more.Limits.ContextTokens+256 <= more.Model.Text.MaxPositions {
		t.Errorf("%d tokens fit too", after.Limits.ContextTokens)
	}
}

// What is missing is counted over card and host together, and where the middle of an interval fits it is not called a
// misfit of one byte.
func TestShortfallCountsBothPlaces(t *testing.T) {
	card := ampere(8 * units.GiB)
	_, err := advise.Deploy("llama-server", deployInputs(t, "qwen3-vl-30b-a3b", &card))
	var short *advise.Shortfall
	if !errors.As(err, &short) || short.Missing < 3*units.GiB || !strings.Contains(short.Where, "together") {
		t.Errorf("18 GiB on 14: %v", err)
	}
	_, err = advise.Deploy("onnxruntime-genai", deployInputs(t, "qwen3-vl-2b", nil))
	if !errors.As(err, &short) || !short.Unsure || short.Precision != "int4" {
		t.Errorf("an interval that fits at its middle: %v", err)
	}
	old := ampere(2 * units.GiB)
	old.ComputeCapability = "6.1"
	_, err = advise.Deploy("transformers", deployInputs(t, "qwen3-vl-2b", &old))
	if !errors.As(err, &short) || short.Missing < 100*units.MiB ||
		!slices.ContainsFunc(short.WouldFit, func(s string) bool { return strings.HasPrefix(s, "--for llama-server") }) {
		t.Errorf("tower, embeddings and a layer beside CUDA's context on 2 GiB: %v", err)
	}
}

// A machine with two cards: the file says what was reckoned, one card where the model fits it and else a half each.
func TestFilesSayWhichCards(t *testing.T) {
	card := ampere(24 * units.GiB)
	for precision, want := range map[string]string{"q4_k_m": "--split-mode none", "q8_0": "--tensor-split 1,1"} {
		in := deployInputs(t, "qwen3-vl-32b", &card)
		in.Hardware.GPUs = append(in.Hardware.GPUs, card)
		in.Precision, in.Given = precision, []string{"context", "image"}
		d, err := advise.Deploy("llama-server", in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := engine.Write("llama-server", d.Settings)
		if err != nil || !strings.Contains(b.Files[0].Content, want) {
			t.Errorf("%s: %v, want %s in\n%s", precision, err, want, b.Files[0].Content)
		}
		cards := map[string]units.Bytes{}
		for _, i := range d.Memory.Items {
			if i.Where != "host" {
				cards[i.Where] += i.High
			}
		}
		for where, holds := range cards {
			if holds > card.MemoryBytes || len(cards) != map[string]int{"q4_k_m": 1, "q8_0": 2}[precision] {
				t.Errorf("%s: %s holds %s, of %d", precision, where, holds, len(cards))
			}
		}
	}
}

// A configuration's budgets are of one card: what fits over all of them alone is named, as the engine's files have it.
func TestWhatFitsOverAllCardsIsNamed(t *testing.T) {
	in := inputs(t, "qwen2.5-vl-72b", "i5-10210u", "rtx-3090", "rtx-3090")
	in.Engine = "llama-server"
	var short *advise.Shortfall
	if _, err := advise.Make(in); !errors.As(err, &short) || len(short.WouldFit) == 0 ||
		!strings.HasPrefix(short.WouldFit[0], "--for llama-server") {
		t.Errorf("%v: %+v", err, short)
	}
}

// Three alike cards of which two share layers hold in stages what two do not, before smaller weights are tried; what
// the user laid out stays.
func TestStagesWhereSharingIsNotEnough(t *testing.T) {
	big := ampere(31 * units.GiB)
	for _, c := range []struct {
		cards  int
		served engine.Served
		want   engine.Served
		quant  string
	}{
		{3, engine.Served{}, engine.Served{TensorParallel: 1, PipelineParallel: 3}, "auto"},
		{2, engine.Served{}, engine.Served{TensorParallel: 2}, "fp8"},
		{4, engine.Served{}, engine.Served{TensorParallel: 4}, "auto"},
		{6, engine.Served{}, engine.Served{TensorParallel: 4}, "auto"},
		{3, engine.Served{TensorParallel: 2}, engine.Served{TensorParallel: 2}, "fp8"},
	} {
		for _, name := range []string{"vllm", "sglang"} {
			in := deployInputs(t, "qwen3-vl-32b", &big)
			in.Hardware.GPUs = slices.Repeat(in.Hardware.GPUs, c.cards)
			in.Served = c.served
			d, err := advise.Deploy(name, in)
			if err != nil {
				t.Fatal(err)
			}
			if d.Settings.Served != c.want || d.Memory.Quant != c.quant {
				t.Errorf("%s on %d cards of %+v: %+v in %s", name, c.cards, c.served, d.Settings.Served, d.Memory.Quant)
			}
			if need := int64(d.Limits.ContextTokens); d.Memory.CacheTokens < need {
				t.Errorf("%s on %d cards: %d tokens", name, c.cards, d.Memory.CacheTokens)
			}
		}
	}
}

// Two cards that CUDA does not have are two cards: the layers are shared out over both, and the file says so.
func TestLayersOverTwoCardsOfAnotherMake(t *testing.T) {
	in := deployInputs(t, "qwen3-vl-30b-a3b", nil)
	card, err := profiles.Hardware("rx-6800")
	if err != nil {
		t.Fatal(err)
	}
	in.Hardware.Cards = slices.Repeat(card.Cards, 2)
	d, err := advise.Deploy("llama-server", in)
	if err != nil || d.Settings.Cards != 2 || d.Settings.ExpertLayers != 0 || d.Options.Llama.Cards != 2 {
		t.Errorf("%d cards, experts of %d layers on the host: %v", d.Settings.Cards, d.Settings.ExpertLayers, err)
	}
}
