package estimate

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/engine"
)

// draft reads the model that guesses tokens, by name or from its file.
func (o *Request) draft() error {
	f := &o.Settings
	if f.Draft == "" {
		for _, name := range []string{"quant-draft", "kv-type-draft", "ngl-draft", "spec-draft-n-max"} {
			if o.given(name) {
				return fmt.Errorf("--%s has no effect without --model-draft", name)
			}
		}
		for _, kind := range f.Speculation {
			if kind == "draft-simple" {
				return errors.New("--spec-type draft-simple: name the draft with --model-draft")
			}
		}
		return nil
	}
	of := Request{Model: f.Draft, Options: engine.Options{Quant: f.DraftQuant}, ImageSize: "none"}
	m, err := of.loadAny()
	if err != nil {
		return fmt.Errorf("--model-draft: %w", err)
	}
	d := engine.Draft{Model: &m, Quant: of.Quant, KVType: f.DraftKV, Files: of.Files}
	if f.DraftLayers >= 0 && o.given("ngl-draft") {
		d.HostLayers = max(0, m.Text.Layers+1-f.DraftLayers)
	}
	o.Llama.Draft = &d
	o.Notes = append(o.Notes, of.Notes...)
	return nil
}
