package advise_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// inputs is advice for a built-in model on built-in hardware, sized from two samples.
func inputs(t *testing.T, model string, hardware ...string) advise.Inputs {
	t.Helper()
	var parts []profile.Hardware
	for _, name := range hardware {
		h, err := profiles.Hardware(name)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, h)
	}
	m, err := profiles.Model(model)
	if err != nil {
		t.Fatal(err)
	}
	in := advise.Inputs{Hardware: profile.Combine(parts...), Model: m,
		Limits: advise.Limits{ContextTokens: 2048, ImageWidth: 640, ImageHeight: 480, Concurrency: 1}}
	request := func(width, height, prompt int) advise.Demand {
		tr, err := workload.Request(m, workload.Options{Width: width, Height: height, PromptTokens: prompt, DecodeTokens: 1,
			DType: advise.Activation(in.Hardware), Cache: workload.Static})
		if err != nil {
			t.Fatal(err)
		}
		d, err := replay.Split(tr)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	in.Largest = func(l advise.Limits) (advise.Demand, error) {
		return request(l.ImageWidth, l.ImageHeight, max(1, l.ContextTokens-400)), nil
	}
	for _, d := range []advise.Demand{request(320, 240, 20), request(640, 480, 1000)} {
		seen, err := advise.See(d, advise.Candidates())
		if err != nil {
			t.Fatal(err)
		}
		in.Seen = append(in.Seen, seen)
	}
	return in
}

func check(t *testing.T, name string, p advise.Side) {
	t.Helper()
	used := p.Weights.Value + p.KVCache.Value + p.Vision.Value + p.Compute.Value + p.Pools.Value + p.Pinned.Value +
		p.Other.Value
	if used+p.Free.Value != p.Capacity.Value {
		t.Errorf("%s: items %d and free %d do not add up to %d", name, used, p.Free.Value, p.Capacity.Value)
	}
	for item, v := range map[string]units.Bytes{"weights": p.Weights.Value, "kv": p.KVCache.Value,
		"vision":  p.Vision.Value,
		"compute": p.Compute.Value, "pools": p.Pools.Value, "pinned": p.Pinned.Value, "other": p.Other.Value,
		"free": p.Free.Value} {
		if v < 0 {
			t.Errorf("%s: %s is %d", name, item, v)
		}
	}
}

func TestBudgetAddsUpOrFallsShort(t *testing.T) {
	for _, model := range []string{"qwen3-vl-2b", "qwen3-vl-8b", "qwen3-vl-30b-a3b"} {
		for _, card := range []string{"", "mx350", "gtx-1060-6gb", "gtx-1080-ti", "quadro-p6000"} {
			hardware := []string{"i5-10210u"}
			if card != "" {
				hardware = append(hardware, card)
			}
			name := model + " on " + strings.Join(hardware, "+")
			in := inputs(t, model, hardware...)
			a, err := advise.Make(in)
			var short *advise.Shortfall
			if errors.As(err, &short) {
				if short.Missing <= 0 || in.Fits() {
					t.Errorf("%s: %v, yet it fits: %v", name, err, in.Fits())
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !in.Fits() {
				t.Errorf("%s: advice for what does not fit", name)
			}
			check(t, name+" host", a.Budget.Host)
			if (a.Budget.Device != nil) != (card != "") {
				t.Errorf("%s: device %v", name, a.Budget.Device)
			}
			if a.Budget.Device != nil {
				check(t, name+" device", *a.Budget.Device)
			}
			for _, p := range []advise.Pool{a.Pools.General, a.Pools.KVCache, a.Pools.VisionFeatures, a.Pools.TextEmbeddings} {
				if p.Initial.Value <= 0 || p.Initial.Value > p.Max.Value || p.Alignment.Value <= 0 {
					t.Errorf("%s: pool %+v", name, p)
				}
			}
		}
	}
}

func TestPrecisionIsTheHighestThatFits(t *testing.T) {
	for _, c := range []struct {
		model, card, want string
		split             bool
	}{
		{"qwen3-vl-2b", "quadro-p6000", "fp16", false},
		{"qwen3-vl-4b", "gtx-1080", "q8_0", false},
		{"qwen3-vl-8b", "gtx-1080", "q5_0", false},
		{"qwen3-vl-2b", "mx350", "q4_0", true},
	} {
		in := inputs(t, c.model, "i5-10210u", c.card)
		a, err := advise.Make(in)
		if err != nil {
			t.Fatal(err)
		}
		split := a.Budget.LayersOnDevice.Value < in.Model.Text.Layers
		if a.Budget.Precision.Value != c.want || split != c.split {
			t.Errorf("%s on %s: %s, %d of %d layers on the card; want %s, split %v", c.model, c.card,
				a.Budget.Precision.Value, a.Budget.LayersOnDevice.Value, in.Model.Text.Layers, c.want, c.split)
		}
	}
}

func TestShortfallNamesWhatWouldFit(t *testing.T) {
	in := inputs(t, "qwen3-vl-2b", "i5-10210u")
	in.Limits.ContextTokens = 65536
	in.Limits.Concurrency = 1
	_, err := advise.Make(in)
	var short *advise.Shortfall
	if !errors.As(err, &short) || len(short.WouldFit) == 0 || !strings.HasPrefix(short.WouldFit[0], "--context ") {
		t.Fatalf("got %v", err)
	}
}

func TestEveryValueCarriesItsEvidence(t *testing.T) {
	a, err := advise.Make(inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Dump(a)
	if err != nil {
		t.Fatal(err)
	}
	sources := []string{"[measured]", "[replayed]", "[derived]", "[assumed]", "[given]"}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if value = strings.TrimSpace(value); value == "" || strings.HasPrefix(key, "schema") {
			continue
		}
		if !slices.ContainsFunc(sources, func(s string) bool { return strings.HasSuffix(value, s) }) {
			t.Errorf("no evidence beside %q", strings.TrimSpace(line))
		}
	}
	var back advise.Advice
	if err := yaml.Load(text, &back, yaml.WithKnownFields()); err != nil {
		t.Fatalf("the configuration does not read back: %v", err)
	}
	again, err := yaml.Dump(back)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := plain(again), plain(text); !bytes.Equal(got, want) {
		t.Errorf("read back and written again it is\n%s\nnot\n%s", got, want)
	}
}

// plain drops the comments.
func plain(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		value, _, _ := bytes.Cut(line, []byte(" #"))
		out = append(append(out, bytes.TrimRight(value, "\n")...), '\n')
	}
	return out
}
