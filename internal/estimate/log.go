package estimate

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
)

// FromLog estimates what a log says was loaded, under the settings that it says, and holds its buffers against that.
// Flags that are given count more than the log.
func (o *Request) FromLog(path string) (*engine.Memory, advise.Verification, error) {
	log, err := readLlamaLog(path)
	if err != nil {
		return nil, advise.Verification{}, err
	}
	model, err := o.loggedModel(log)
	if err == nil {
		err = o.logged(log)
	}
	if errors.Is(err, engine.ErrNoSettings) {
		return nil, advise.Verification{}, verdict.Unsure.Errorf("--log %s: %w", path, err)
	}
	if err != nil {
		return nil, advise.Verification{}, fmt.Errorf("--log %s: %w", path, err)
	}
	if _, known := sameDecoder(model.Text); !known && !o.given("model") { // the log does not describe the tower
		o.Image = &engine.Image{}
	}
	mem, err := engine.Estimate(o.Engine, &model, o.Options)
	if err != nil {
		return nil, advise.Verification{}, err
	}
	mem.Logged = log.Items
	v := advise.Held(mem.Items, log.Items, "the log")
	v.Config = path
	return mem, v, nil
}

func readLlamaLog(path string) (*engine.LlamaLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading --log: %w", err)
	}
	defer f.Close()
	log, err := engine.ParseLlamaLog(f)
	if err != nil {
		return nil, fmt.Errorf("reading --log %s: %w", path, err)
	}
	return log, nil
}

// loggedModel is the model that --model names, or the one whose header the log dumps.
func (o *Request) loggedModel(log *engine.LlamaLog) (profile.Model, error) {
	if o.given("model") {
		return o.Load()
	}
	g, err := log.Header()
	if err != nil {
		return profile.Model{}, err
	}
	text, levels, err := g.Text()
	if err == nil {
		err = text.Validate()
	}
	if err != nil {
		return profile.Model{}, err
	}
	name := cmp.Or(log.Texts["kv.general.name"], log.Texts["general.name"], filepath.Base(log.Texts["file"]))
	return decoderOf(text, levels, name), nil
}

// logged puts the log's settings where no flag says otherwise.
func (o *Request) logged(log *engine.LlamaLog) error {
	said, err := log.Options()
	if err != nil {
		return err
	}
	if !o.given("engine") {
		o.Engine = log.Engine()
	}
	given := o.Options
	o.Options = said
	if o.given("cache-ram") {
		o.Llama.CacheRAM = &o.Settings.CacheRAM
	}
	for flag, keep := range map[string]func(){
		"quant": func() { o.Quant = given.Quant }, "ctx": func() { o.Context = given.Context },
		"ubatch": func() { o.UBatch = given.UBatch }, "batch": func() { o.Batch = given.Batch },
		"parallel": func() { o.Sequences = given.Sequences }, "outputs": func() { o.Outputs = given.Outputs },
		"kv-type": func() { o.KVType = given.KVType }, "device": func() { o.Device = given.Device },
		"flash-attention": func() { o.FlashAttention = given.FlashAttention },
		"build":           func() { o.Llama.Build = o.Settings.Build },
	} {
		if o.given(flag) {
			keep()
		}
	}
	return nil
}
