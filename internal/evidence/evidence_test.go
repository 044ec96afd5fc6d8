package evidence

import (
	"encoding/json"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// A value and a range are written with their evidence beside them and read back plain; a warning is its words.
func TestEvidenceIsWrittenBeside(t *testing.T) {
	type document struct {
		Tokens   Value[int] `yaml:"tokens"`
		Bytes    Range      `yaml:"bytes"`
		Warnings []Warning  `yaml:"warnings"`
	}
	text, err := yaml.Marshal(document{Of(4096, "one user", Assumed), Between(1, 2, "exact", Derived),
		[]Warning{Warn("slow", "%d ms", 3)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"tokens: 4096 # one user [assumed]", "bytes: [1, 2] # exact [derived]", "- 3 ms"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var back document
	if err := yaml.Unmarshal(text, &back); err != nil || back.Tokens.Value != 4096 || back.Bytes.High != 2 ||
		back.Warnings[0].Text != "3 ms" || !back.Bytes.Contains(2) || back.Bytes.Contains(3) {
		t.Errorf("%+v, %v", back, err)
	}
	if data, err := json.Marshal(Of("x", "given", Given)); err != nil || string(data) !=
		`{"value":"x","why":"given","source":"given"}` {
		t.Errorf("%s, %v", data, err)
	}
	if !Has([]Warning{Warn("slow", "")}, "fast", "slow") || Has(nil, "slow") {
		t.Error("codes are not told apart")
	}
}
