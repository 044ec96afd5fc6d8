package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// What llama-fit-params of llama.cpp v0.5.0 printed for qwen3-vl-2b, 4,096 cells unless it says otherwise, through the
// CPU and through the recorder's stand-in for a card (tools/reference/llamacpp).
var fitParamsTables = []struct {
	name, text string
	options    Options
}{
	{"cpu", "Host 1743 448 320 \n", Options{Quant: "q8_0", Context: 4096, Device: "cpu"}},
	{"four slots", "Host 1743 448 321 \n", Options{Quant: "q8_0", Context: 4096, Sequences: 4, Device: "cpu"}},
	{"quantised cache", "Host 1743 238 160 \n", Options{Quant: "q8_0", Context: 4096, UBatch: 256, KVType: "q8_0",
		FlashAttention: "on", Device: "cpu"}},
	{"q4_0", "Host 923 448 320 \n", Options{Quant: "q4_0", Context: 4096, Device: "cpu"}},
	{"card", "DEV0 1743 448 300 \nHost 315 0 24 \n", Options{Quant: "q8_0", Context: 4096, Device: "gpu"}},
	{"part on the card", "DEV0 774 144 300 \nHost 1284 304 24 \n",
		Options{Quant: "q8_0", Context: 4096, HostLayers: 19, Device: "gpu"}},
	{"two slots", "DEV0 1743 896 300 \nHost 315 0 24 \n", Options{Quant: "q8_0", Context: 8192, Sequences: 2,
		Device: "gpu"}},
}

// TestFitParamsAgrees holds the estimate against the tool's own figures.
func TestFitParamsAgrees(t *testing.T) {
	for _, c := range fitParamsTables {
		said, err := ReadFitParams(strings.NewReader(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		mem := estimate(t, "llama.cpp", model(t, "qwen3-vl-2b"), c.options)
		for _, s := range said {
			if got := mem.on(s.Where, s.Name); got < s.Low || got > s.High {
				t.Errorf("%s: %s %s: estimated %d, llama-fit-params says %d to %d", c.name, s.Where, s.Name, got, s.Low, s.High)
			}
		}
	}
}

func TestReadFitParams(t *testing.T) {
	// Two cards, the first release's lower case (ggml-org/llama.cpp#22171), and noise of a backend on stdout.
	got, err := ReadFitParams(strings.NewReader("ggml_cuda_init: found 2 CUDA devices:\nCUDA0 31683 661 505\n" +
		"CUDA1 10739 251 234 \nhost 2425  0   84\n"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]units.Bytes{}
	for _, i := range got {
		sums[i.Where+" "+i.Name] += i.Bytes / units.MiB
		if i.High-i.Low != units.MiB-1 {
			t.Errorf("%s %s: %d to %d", i.Where, i.Name, i.Low, i.High)
		}
	}
	for name, want := range map[string]units.Bytes{"device weights": 42422, "device KV cache": 912, "device compute": 739,
		"host weights": 2425, "host KV cache": 0, "host compute": 84} {
		if sums[name] != want {
			t.Errorf("%s: %d MiB, want %d", name, sums[name], want)
		}
	}
	for text, want := range map[string]string{
		"":                              "no line of a device",
		"-c 4096 -ngl -1\n":             "no line of a device", // without --fit-print
		"CUDA0 1 2 3\n":                 "no line of a device", // cut before the host's row
		"Host 99999999999999999999 0 0": "line 1: weights of Host",
	} {
		if _, err := ReadFitParams(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := ReadFitParams(strings.NewReader("x")); !errors.Is(err, ErrNoRows) {
		t.Errorf("got %v", err)
	}
}

// The tool takes what it is asked with, and nothing that it would refuse.
func TestFitArguments(t *testing.T) {
	got, err := FitArguments("m.gguf", whole(t, card(t, "gtx-1080")))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("--model m.gguf --ctx-size 16384 --parallel 2 --ubatch-size 1024 --n-gpu-layers 20 " +
		"--flash-attn on " +
		"--cache-type-k q8_0 --cache-type-v q8_0 --no-repack --fit-print on")
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	for _, argument := range got {
		if name, ok := strings.CutPrefix(argument, "--"); ok && name != "fit-print" { // the tool's own
			known(t, FitParamsTool, arguments(t, llamaServer.list()), name)
		}
	}
}
