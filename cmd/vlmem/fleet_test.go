package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// planned is what the tests read of a plan.
type planned struct {
	Warnings []string
	Kinds    []struct {
		Name     string
		Machines []string
		Models   []struct {
			Model     string
			Fits      []string
			Verdict   string
			Precision string
			Layers    int   `json:"layers_on_device"`
			Context   int   `json:"context_tokens"`
			Missing   int64 `json:"missing_bytes"`
			Speed     struct {
				Decode struct{ Median float64 } `json:"decode_tokens_per_s"`
			}
			Service *struct {
				Nodes int
				Spare float64
				Each  struct{ Median float64 } `json:"requests_per_s"`
			}
		}
	}
}

func planOf(t *testing.T, code int, args ...string) planned {
	t.Helper()
	r := vlmem(t, nil, append([]string{"fleet", "--format", "json"}, args...)...)
	var p planned
	if err := json.Unmarshal([]byte(r.stdout), &p); err != nil || r.code != code {
		t.Fatalf("%v: exit %d, %v, %s", args, r.code, err, r.stderr)
	}
	return p
}

// advised is what the test reads of a configuration.
type advised struct {
	Model  struct{ Weights struct{ Value string } }
	Budget struct {
		Layers  struct{ Value int } `json:"layers_on_device"`
		Context struct{ Value int } `json:"context_tokens"`
	}
	Choices []struct {
		Chosen  bool
		Verdict string
		Speed   struct {
			Decode struct{ Median float64 } `json:"decode_tokens_per_s"`
		}
	}
}

// TestFleetSaysWhatAdviseSays: of each pair the same verdict, precision, place, context and speed.
func TestFleetSaysWhatAdviseSays(t *testing.T) {
	for _, pair := range [][2]string{{"i5-10210u", "qwen3-vl-2b"}, {"i5-10210u+mx350", "qwen3-vl-4b"},
		{"i5-10210u+gtx-1080", "qwen3-vl-8b"}, {"i5-10210u", "qwen3-vl-32b"}, {"i5-10210u+agx-orin-64gb", "qwen3-vl-2b"}} {
		r := vlmem(t, nil, "advise", "--hardware", pair[0], "--model", pair[1], "--seeds", "1", "--format", "json")
		got := planOf(t, r.code, pair[0], "--model", pair[1]).Kinds[0].Models[0]
		if r.code == exitUnable {
			if got.Fits != nil || got.Missing == 0 || !strings.Contains(r.stderr, "is missing") {
				t.Errorf("%v: %+v, advise: %s", pair, got, r.stderr)
			}
			continue
		}
		var a advised
		if err := json.Unmarshal([]byte(r.stdout), &a); err != nil {
			t.Fatalf("%s: %v", r.stderr, err)
		}
		for _, c := range a.Choices {
			if c.Chosen && (c.Verdict != got.Verdict || c.Speed.Decode != got.Speed.Decode) {
				t.Errorf("%v: %+v, advise: %+v", pair, got, c)
			}
		}
		if b := a.Budget; len(got.Fits) != 1 || got.Precision != a.Model.Weights.Value || got.Layers != b.Layers.Value ||
			got.Context != b.Context.Value {
			t.Errorf("%v: %+v, advise: %+v", pair, got, a)
		}
	}
}

// TestFleetJoinsMachinesThatAreAlike: a node with less memory free is of the same kind, and does not fit the same.
func TestFleetJoinsMachinesThatAreAlike(t *testing.T) {
	folder := t.TempDir()
	text, err := os.ReadFile("../../profiles/hardware/i5-10210u.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, free := range map[string]string{"a.yaml": "30000000000", "b.yaml": "20000000000", "c+d.yaml": "100000000"} {
		node := strings.Replace(string(text), "\nmemory:\n", "\nmemory:\n  available_bytes: "+free+"\n", 1)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(node), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := planOf(t, 0, folder+"/*.yaml", filepath.Join(folder, "a.yaml"), "--model", "qwen3-vl-2b", "--mix", "chat",
		"--rate", "3")
	if len(p.Kinds) != 1 || len(p.Kinds[0].Machines) != 3 || len(p.Kinds[0].Models[0].Fits) != 2 {
		t.Fatalf("%+v", p)
	}
	s := p.Kinds[0].Models[0].Service
	if want := 1 - 3/(s.Each.Median*float64(s.Nodes)); s.Nodes < 2 || s.Spare < 0.3 || s.Spare < want-1e-9 ||
		s.Spare > want+1e-9 {
		t.Errorf("%+v, want %g spare", *s, want)
	}
	for format, want := range map[string]string{"table": "2 of 3", "yaml": "machines_that_fit: 2",
		"markdown": "| 2 of 3 |",
		"csv":      "i5-10210u,3,qwen3-vl-2b,2,", "html": "3 machines"} {
		r := vlmem(t, nil, "fleet", folder+"/*.yaml", "--model", "qwen3-vl-2b", "--mix", "chat", "--format", format)
		if r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("%s: exit %d, %q is not in %s%s", format, r.code, want, r.stdout, r.stderr)
		}
	}
}

func TestFleetFaultsAreNamed(t *testing.T) {
	model := []string{"--model", "qwen3-vl-2b"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{model, "takes hardware"},
		{[]string{"i5-10210u"}, "no --model"},
		{append(model, "gtx-1080"), "gtx-1080 says nothing of host memory"},
		{append(model, "gtx-*"), "nothing matches it"},
		{append(model, "i5-10210u+[a"), "syntax error in pattern"},
		{append(model, "none/*.yaml"), "nothing matches it"},
		{append(model, "none.yaml"), "none.yaml"},
		{append(model, "i5-10210u", "--rate", "3"), "say which with --mix"},
		{append(model, "i5-10210u", "--mix", "chat", "--rate", "-1"), "--rate -1"},
		{append(model, "i5-10210u", "--mix", "chat", "--rate", "0"), "--rate 0"},
		{append(model, "i5-10210u", "--model", "qwen3-vl-2b"), "--model qwen3-vl-2b is given twice"},
		{append(model, "i5-10210u", "--mix", "chat", "--busy", "1"), "--busy 1"},
		{append(model, "i5-10210u", "--mix", "none"), "chat"},
		{append(model, "i5-10210u", "--context", "64"), "--context 64"},
		{append(model, "i5-10210u", "--precision", "q9"), "q9"},
	} {
		r := vlmem(t, nil, append([]string{"fleet"}, c.args...)...)
		if r.code != exitUsage || r.stdout != "" || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: %+v, want %q", c.args, r, c.want)
		}
	}
}

// TestFleetWithoutADamagedNode: a machine whose file cannot be used is named with the reason, and the others answer;
// alone it is bad input.
func TestFleetWithoutADamagedNode(t *testing.T) {
	folder := t.TempDir()
	good, err := os.ReadFile("../../profiles/hardware/i5-10210u.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, cpu, _ := strings.Cut(string(good), "\ncpu:\n")
	cpu, _, _ = strings.Cut(cpu, "\nmemory:\n")
	for name, text := range map[string]string{"a.yaml": string(good),
		"b.yaml": "schema: vlmem/hardware/v1\nname: b\ncpu:\n" + cpu + "\n",
		"c.yaml": "not: hardware\n", "d.yaml": strings.Replace(string(good), "total_bytes: ", "total_bytes: 0 #", 1)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := planOf(t, 0, folder+"/*.yaml", "--model", "qwen3-vl-2b")
	if len(p.Kinds) != 1 || len(p.Warnings) != 3 {
		t.Errorf("%+v", p)
	}
	r := vlmem(t, nil, "fleet", folder+"/*.yaml", "--model", "qwen3-vl-2b")
	for _, name := range []string{"b.yaml says nothing of host memory", "c.yaml:1", "d.yaml"} {
		if r.code != 0 || !strings.Contains(r.stderr, name) {
			t.Errorf("exit %d, no %q in %s", r.code, name, r.stderr)
		}
	}
	if r := vlmem(t, nil, "fleet", folder+"/[b-d].yaml", "--model", "qwen3-vl-2b"); r.code != exitUsage {
		t.Errorf("none is usable: %+v", r)
	}
}
