package profile_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// counted may be another table that tools/reference/models/count.py wrote, of other configurations.
var counted = flag.String("counted", "testdata/counted.jsonl", "table of models counted by transformers")

// countedModel is one line of that table.
type countedModel struct {
	Name       string          `json:"name"` // of a built-in model, or of a class and a draw
	Config     json.RawMessage `json:"config"`
	Parameters int64           `json:"parameters"` // on the meta device
	Vision     int64           `json:"vision"`     // of them, the tower's and what joins it
	Narrow     json.RawMessage `json:"narrow"`     // the same model, thin, whose real cache was measured
	Tokens     int             `json:"tokens"`
	Cached     int64           `json:"cached"` // bytes of keys and values of so many tokens, in bf16
	States     int64           `json:"states"` // bytes of what does not grow
}

// quantisedCase is one checkpoint that tools/reference/models/quantised.py counted.
type quantisedCase struct {
	Name  string          `json:"name"`
	Base  string          `json:"base"`
	Inner bool            `json:"inner"` // the configuration stands in text_config
	Quant json.RawMessage `json:"quantization_config"`
	Bytes int64           `json:"bytes"`
}

// config is the whole config.json.
func (c quantisedCase) config(t *testing.T, base map[string]json.RawMessage) []byte {
	whole, key := maps.Clone(base), "quantization_config"
	whole[key] = c.Quant
	if c.Inner {
		inner := map[string]json.RawMessage{}
		if err := json.Unmarshal(base["text_config"], &inner); err != nil {
			t.Fatal(err)
		}
		inner[key] = c.Quant
		delete(whole, key)
		whole["text_config"], _ = json.Marshal(inner)
	}
	data, _ := json.Marshal(whole)
	return data
}

// Quantised checkpoints as their quantisers write them take the bytes that were counted module by module over
// transformers' own classes, by rules written out for each; a millionth is rounding.
func TestQuantisedCheckpointsAsCounted(t *testing.T) {
	var table struct {
		Bases map[string]map[string]json.RawMessage `json:"bases"`
		Cases []quantisedCase                       `json:"cases"`
	}
	data, err := os.ReadFile("testdata/quantised.json")
	if err == nil {
		err = json.Unmarshal(data, &table)
	}
	if err != nil || len(table.Cases) < 25 {
		t.Fatal(len(table.Cases), err)
	}
	for _, c := range table.Cases {
		m, err := profile.DecodeHuggingFace("config.json", c.config(t, table.Bases[c.Base]))
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		var got int64
		for _, x := range m.Modules() {
			got += m.Quantisation.Bytes(x, 2)
		}
		if off := got - c.Bytes; max(off, -off) > c.Bytes/1_000_000 {
			t.Errorf("%s: %d bytes, counted %d", c.Name, got, c.Bytes)
		}
	}
}

// Every built-in model, and random configurations of every class with keys left out at random, have the parameters that
// transformers' own classes have on the meta device, and the cache and states that real caches hold.
func TestModelsAsTransformersCountsThem(t *testing.T) {
	f, err := os.Open(*counted)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c countedModel
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		seen[c.Name] = true
		t.Run(c.Name, c.check)
	}
	for _, name := range profiles.ModelNames() {
		if *counted == "testdata/counted.jsonl" && !seen[name] {
			t.Errorf("%s was never counted", name)
		}
	}
}

func (c countedModel) check(t *testing.T) {
	m, err := profile.DecodeHuggingFace("config.json", c.Config)
	if err != nil {
		t.Fatal(err)
	}
	c.sameParameters(t, &m)
	if !strings.Contains(c.Name, " ") && !strings.Contains(c.Name, ".json") {
		built, err := profiles.Model(c.Name)
		if err != nil {
			t.Fatal(err)
		}
		c.sameParameters(t, &built)
		if a, b := m.KVBytesPerToken(profile.BF16), built.KVBytesPerToken(profile.BF16); a != b {
			t.Errorf("%d B of cache a token, built in %d", a, b)
		}
		if a, b := m.Text.StateBytes(2), built.Text.StateBytes(2); a != b {
			t.Errorf("%d B of states, built in %d", a, b)
		}
	}
	narrow, err := profile.DecodeHuggingFace("config.json", c.Narrow)
	if err != nil {
		t.Fatal(err)
	}
	if got := 2 * narrow.Text.CachedElements(c.Tokens); got != c.Cached {
		t.Errorf("%d B of cache for %d tokens, real %d", got, c.Tokens, c.Cached)
	}
	if got := narrow.Text.StateBytes(2); got != c.States {
		t.Errorf("%d B of states, real %d", got, c.States)
	}
}

func (c countedModel) sameParameters(t *testing.T, m *profile.Model) {
	t.Helper()
	p := m.Parameters()
	if p.Total() != c.Parameters || p.VisionCore+p.Merger+p.Deepstack != c.Vision {
		t.Errorf("%d parameters, %d of the tower; counted %d and %d", p.Total(), p.VisionCore+p.Merger+p.Deepstack,
			c.Parameters, c.Vision)
	}
}
