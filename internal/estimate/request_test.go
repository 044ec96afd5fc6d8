package estimate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine"
)

func requestFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "request.yaml")
	if err := os.WriteFile(path, []byte("schema: vlmem/request/v1\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each key of a request file moves an engine's estimate, or is refused by name, of the file and of the engine.
func TestEachKeyOfARequestIsReckonedOrRefused(t *testing.T) {
	const base = "images: [{width: 640, height: 480}]\nprompt: 300\n"
	ask := func(name, text string) (*engine.Memory, error) {
		o := Request{Model: "qwen3-vl-2b", Engine: name, Hardware: "h100", File: requestFile(t, text)}
		m, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		return o.Estimate(&m)
	}
	taken := map[string]int{}
	for _, name := range engine.Names((*engine.Engine).Estimates) {
		plain, err := ask(name, base)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, more := range []string{"output: 3000", "sequences: 3", "kept: 2000", "chunk: 64", "beams: 4",
			"use_cache: false", "all_logits: true", "padding: 20\nsequences: 2"} {
			key, _, _ := strings.Cut(more, ":")
			got, err := ask(name, base+more+"\n")
			switch {
			case err != nil && !(strings.Contains(err.Error(), key) && strings.Contains(err.Error(), name)):
				t.Errorf("%s, %s: %v", name, more, err)
			case err != nil:
			case key == "all_logits": // llama.cpp computes those of all tokens by itself
				taken[key]++
			case got.TotalBytes == plain.TotalBytes && got.ContextTokens == plain.ContextTokens &&
				got.CacheTokens == plain.CacheTokens && len(got.Warnings) == len(plain.Warnings):
				t.Errorf("%s: %s changes nothing", name, more)
			default:
				taken[key]++
			}
		}
	}
	if taken["output"] < 8 || taken["kept"] < 7 || taken["chunk"] < 5 || taken["sequences"] < 4 {
		t.Errorf("taken by so few engines: %v", taken)
	}
}

// Images of several sizes are more than the largest alone, and as much as so many of one size where they are alike.
func TestSizesOfARequest(t *testing.T) {
	ask := func(images string) *engine.Memory {
		o := Request{Model: "qwen3-vl-2b", Engine: "transformers", File: requestFile(t, images+"\nprompt: 300\n")}
		m, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		mem, err := o.Estimate(&m)
		if err != nil {
			t.Fatal(err)
		}
		return mem
	}
	one := ask("images: [{width: 1280, height: 960}]")
	more := ask("images: [{width: 1280, height: 960}, {width: 320, height: 240}]")
	twice := ask("images: [{width: 1280, height: 960}, {width: 1280, height: 960}]")
	counted := ask("images: [{width: 1280, height: 960, count: 2}]")
	if one.TotalBytes >= more.TotalBytes || more.TotalBytes >= twice.TotalBytes ||
		twice.TotalBytes != counted.TotalBytes {
		t.Errorf("%v, %v, %v and %v", one.TotalBytes, more.TotalBytes, twice.TotalBytes, counted.TotalBytes)
	}
}

// What no request is ends with file and line, and a context that does not hold one with the flag.
func TestBadRequests(t *testing.T) {
	for text, want := range map[string]string{
		"images: [{width: 64, height: 64}]\nbeans: 2\n": "request.yaml:3: unknown key beans",
		"output: 2\n":                                              "neither images nor prompt",
		"prompt: 5\npadding: 2\n":                                  "sequences above 1",
		"prompt: 5\npadding: 7\nsequences: 2\n":                    "padding 7: the prompt is 5 tokens",
		"prompt: 5\nbeams: -1\n":                                   "beams -1: want 0",
		"images: [{width: 64, height: 64, frames: -1}]\n":          "images[0]",
		"prompt: 300000\n":                                         "262144 positions",
		"images: [{width: 8, height: 9000}]\nprompt: 3\n":          "aspect ratio",
		"images: [{width: 1280, height: 960}]\nprompt: 9\n#long\n": "--ctx 64: the request of",
	} {
		o := Request{Model: "qwen3-vl-2b", Engine: "llama.cpp", File: requestFile(t, text)}
		if strings.Contains(text, "#long") {
			o.Context, o.Given = 64, func(flag string) bool { return flag == "ctx" }
		}
		m, err := o.Load()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Estimate(&m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
