package engine

import (
	"fmt"
	"strconv"
	"strings"
)

// Invocation is what a command line of llama.cpp's programs says of memory. Flags as common/arg.cpp of the version that
// llamaCPP names has them.
type Invocation struct {
	Options
	Model, Projector string // files
}

// argumentFlags are the flags that decide memory, by every spelling.
var argumentFlags = map[string]func(*Invocation, string) error{
	"-m": setText(func(i *Invocation) *string { return &i.Model }), "--model": setText(func(i *Invocation) *string { return &i.Model }),
	"-mm": setText(func(i *Invocation) *string { return &i.Projector }), "--mmproj": setText(func(i *Invocation) *string { return &i.Projector }),
	"-c": setNumber(func(i *Invocation) *int { return &i.Context }), "--ctx-size": setNumber(func(i *Invocation) *int { return &i.Context }),
	"-b": setNumber(func(i *Invocation) *int { return &i.Batch }), "--batch-size": setNumber(func(i *Invocation) *int { return &i.Batch }),
	"-ub": setNumber(func(i *Invocation) *int { return &i.UBatch }), "--ubatch-size": setNumber(func(i *Invocation) *int { return &i.UBatch }),
	"-np": setNumber(func(i *Invocation) *int { return &i.Sequences }), "--parallel": setNumber(func(i *Invocation) *int { return &i.Sequences }),
	"-ctk": setText(func(i *Invocation) *string { return &i.KVType }), "--cache-type-k": setText(func(i *Invocation) *string { return &i.KVType }),
	"-fa": setText(func(i *Invocation) *string { return &i.FlashAttention }), "--flash-attn": setText(func(i *Invocation) *string { return &i.FlashAttention }),
}

// argumentSwitches are those without a value.
var argumentSwitches = map[string]func(*Invocation){
	"--no-mmap": func(i *Invocation) { i.Llama.LoadMode = "none" },
	"--mlock":   func(i *Invocation) { i.Llama.LoadMode = "mlock" }, "--no-repack": func(i *Invocation) { i.Llama.NoRepack = true },
	"-nr": func(i *Invocation) { i.Llama.NoRepack = true }, "--no-warmup": func(i *Invocation) { i.NoWarmup = true },
	"-kvu": func(i *Invocation) { i.Unified = true }, "--kv-unified": func(i *Invocation) { i.Unified = true },
}

func setText(field func(*Invocation) *string) func(*Invocation, string) error {
	return func(i *Invocation, v string) error { *field(i) = v; return nil }
}

func setNumber(field func(*Invocation) *int) func(*Invocation, string) error {
	return func(i *Invocation, v string) (err error) { *field(i), err = strconv.Atoi(v); return err }
}

// readLlamaArguments reads the arguments of a llama.cpp program; flags that do not decide memory are passed over.
func readLlamaArguments(args []string) (Invocation, error) {
	in := Invocation{Options: Options{FlashAttention: "auto", Device: "cpu"}}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if set, ok := argumentSwitches[name]; ok {
			set(&in)
			continue
		}
		set, ok := argumentFlags[name]
		if !ok {
			continue
		}
		if !joined {
			if i++; i == len(args) {
				return in, fmt.Errorf("%s is without its value", name)
			}
			value = args[i]
		}
		if err := set(&in, value); err != nil {
			return in, fmt.Errorf("%s %s: %w", name, value, err)
		}
	}
	return in, nil
}
