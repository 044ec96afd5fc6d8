package profile

import (
	"strings"
	"testing"
)

func TestDecodeNamesFileAndLine(t *testing.T) {
	const head = "schema: vlmem/hardware/v1\nname: x\n"
	for _, c := range []struct{ name, text, want string }{
		{"malformed", "schema: [\n", "f.yaml:2: did not find expected node content"},
		{"empty", "", "f.yaml: no documents in stream"},
		{"unknown key", head + "cpu:\n  model: a\n  speed: 3\n", "f.yaml:5: unknown key speed"},
		{"unknown top key", "nonsense: 1\n", "f.yaml:1: unknown key nonsense"},
		{"negative size", head + "memory:\n  total_bytes: -5\n", "f.yaml:4: size \"-5\""},
		{"wrong type", head + "cpu:\n  cores: many\n", "f.yaml:4: cannot construct !!str `many`"},
		{"twice", head + "name: y\n", "f.yaml:3: mapping key \"name\" already defined at line 2"},
		{"other schema", "schema: vlmem/model/v1\nname: x\n", `f.yaml: schema is "vlmem/model/v1", want "vlmem/hardware/v1"`},
		{"nothing in it", head, "f.yaml: neither cpu nor gpus nor cards is given"},
		{"impossible", head + "cpu: {model: a, cores: 0, threads: 1, packages: 1, caches: []}\n",
			"f.yaml: cpu.cores must be above zero"},
		{"bad capability", head + "gpus: [{name: a, compute_capability: six, memory_bytes: 1, sm_count: 1, " +
			"shared_memory_per_block_bytes: 1, max_threads_per_block: 1}]\n",
			`gpus[0].compute_capability "six" is not of the form "6.1"`},
	} {
		_, err := DecodeHardware("f.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", c.name, err, c.want)
		}
	}
}

func TestCombineTakesSectionsAndAddsGPUs(t *testing.T) {
	cpu := Hardware{Name: "host", CPU: &CPU{Cores: 4, Threads: 8}, Memory: &Memory{TotalBytes: 1}}
	card := Hardware{Name: "card", GPUs: []GPU{{Name: "a"}}}
	got := Combine(cpu, card, card)
	if got.Name != "host+card+card" || got.CPU != cpu.CPU || got.Memory != cpu.Memory || len(got.GPUs) != 2 ||
		got.Schema != HardwareSchema {
		t.Errorf("combined to %+v", got)
	}
}

func FuzzDecodeHardware(f *testing.F) {
	f.Add([]byte("schema: vlmem/hardware/v1\nname: x\ncpu: {model: a, cores: 1, threads: 1, packages: 1, caches: []}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := DecodeHardware("f", data); err == nil && h.Validate() != nil {
			t.Error("an invalid document was accepted")
		}
	})
}
