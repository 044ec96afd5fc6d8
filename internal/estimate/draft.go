package estimate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
)

// DraftFlags declares how llama-server guesses tokens.
func (f *LlamaSettings) DraftFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.Draft, "model-draft", "",
		"llama-server's -md: a smaller model that guesses tokens, a name or a GGUF file")
	flags.StringVar(&f.DraftQuant, "quant-draft", "", "llama-server: weights of the draft (default: the file's, or q8_0)")
	flags.StringVar(&f.DraftKV, "kv-type-draft", "",
		"llama-server's -ctkd and -ctvd: cache of the draft, K or K,V (default f16)")
	flags.IntVar(&f.DraftLayers, "ngl-draft", -1, "llama-server's -ngld: layers of the draft on the card (default: all)")
	flags.IntVar(&f.DraftMost, "spec-draft-n-max", 0, "llama-server: tokens that a draft guesses at once (default 3)")
	flags.StringSliceVar(&f.Speculation, "spec-type", nil, "llama-server: ways of guessing tokens, "+
		strings.Join(engine.SpeculationTypes(), ", "))
}

// draft reads the model that guesses tokens, by name or from its file.
func (o *Request) draft() error {
	f := &o.Settings
	if f.Draft == "" {
		for _, name := range []string{"quant-draft", "kv-type-draft", "ngl-draft", "spec-draft-n-max"} {
			own := name == "spec-draft-n-max" && slices.Contains(f.Speculation, "draft-mtp")
			if o.given(name) && !own {
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
		d.HostLayers = max(0, m.Text.Blocks()+1-f.DraftLayers)
	}
	o.Llama.Draft = &d
	o.Notes = append(o.Notes, of.Notes...)
	return nil
}
