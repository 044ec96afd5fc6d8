package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/shard"
)

// versioned are the files of vlmem's own that it reads: a whole one of each schema, and its reader.
var versioned = map[string]struct {
	text string
	read func([]byte) error
}{
	advise.Schema: {"", func(b []byte) error { _, err := advise.Decode("f", b); return err }},
	profile.HardwareSchema: {"../../profiles/hardware/gtx-1080.yaml",
		func(b []byte) error { _, err := profile.DecodeHardware("f", b); return err }},
	profile.ModelSchema: {"../../profiles/model/qwen3-vl-2b.yaml",
		func(b []byte) error { _, err := profile.DecodeModel("f", b); return err }},
	profile.MixSchema: {"../../profiles/mix/documents.yaml",
		func(b []byte) error { _, err := profile.DecodeMix("f", b); return err }},
	profile.RequestSchema: {"schema: vlmem/request/v1\nprompt: 9\n",
		func(b []byte) error { _, err := profile.DecodeRequest("f", b); return err }},
	observation.Schema: {`{"schema": "vlmem/observation/v1", "command": ["x"], "interval_seconds": 1}`,
		func(b []byte) error { _, err := observation.Decode("f", b); return err }},
	baseline.Schema: {`{"schema": "vlmem/baseline/v1", "results": [{"workload": "w"}]}`,
		func(b []byte) error { _, err := baseline.Read("f", b); return err }},
	shard.Schema: {`{"schema": "vlmem/shard/v1", "shard": {"index": 0, "of": 1}}`,
		func(b []byte) error { _, err := shard.Read("f", b); return err }},
}

// written are the schemas of what is written for others, or built in, and never read from a file.
var written = []string{"vlmem/fleet/v1", "vlmem/compare/v1", "vlmem/speed/v1"}

// TestOneRuleForAllSchemas: of a newer minor, what is not known is passed over, with a warning; of the reader's own
// version it is refused, and so is any other version.
func TestOneRuleForAllSchemas(t *testing.T) {
	for schema, d := range versioned {
		text := d.text
		switch {
		case schema == advise.Schema:
			text, _, _ = runWith(t, nil, "advise", "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-2b", "--seeds", "1")
		case strings.HasSuffix(text, ".yaml"):
			data, err := os.ReadFile(text)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		as := func(name, key string) []byte {
			out := strings.Replace(text, schema, name, 1)
			if strings.HasPrefix(out, "{") {
				return []byte(strings.Replace(out, "{", "{"+key, 1))
			}
			return []byte(out + key)
		}
		key := "later_key: 1\n"
		if strings.HasPrefix(text, "{") {
			key = `"later_key": 1, `
		}
		if err := d.read(as(schema, "")); err != nil {
			t.Errorf("%s: %v", schema, err)
		}
		if err := d.read(as(schema+".3", key)); err != nil {
			t.Errorf("%s.3 with a key more: %v", schema, err)
		}
		if err := d.read(as(schema, key)); err == nil || !strings.Contains(err.Error(), "later_key") {
			t.Errorf("%s with a key more: %v", schema, err)
		}
		for _, name := range []string{strings.Replace(schema, "/v1", "/v2", 1), schema + ".x", schema + "."} {
			if err := d.read(as(name, "")); err == nil || !strings.Contains(err.Error(), schema) {
				t.Errorf("%s: %v", name, err)
			}
		}
		file := filepath.Join(t.TempDir(), "f.json")
		if err := os.WriteFile(file, as(schema+".3", key), 0o600); err != nil {
			t.Fatal(err)
		}
		notes := catalog.Newer([]string{"gtx-1080+" + file})
		if a, err := advise.ReadFile(file); schema == advise.Schema && err == nil {
			for _, w := range a.Warnings {
				notes = append(notes, w.Text)
			}
		}
		if len(notes) != 1 || !strings.Contains(notes[0], schema+".3 is newer") {
			t.Errorf("%s.3: warnings %q", schema, notes)
		}
	}
}

// TestEverySchemaIsHeld finds the schemas that the program names.
func TestEverySchemaIsHeld(t *testing.T) {
	known := map[string]bool{}
	for schema := range versioned {
		known[schema] = true
	}
	for _, schema := range written {
		known[schema] = true
	}
	named := regexp.MustCompile(`"(vlmem/(?:[a-z]+/)?v\d+)"`)
	err := filepath.WalkDir("../..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range named.FindAllSubmatch(text, -1) {
			if !known[string(m[1])] {
				t.Errorf("%s: %s has no line in versioned, nor in written", path, m[1])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLaterFilesWarn: whichever flag names it, and among arguments.
func TestLaterFilesWarn(t *testing.T) {
	card, err := os.ReadFile("../../profiles/hardware/gtx-1080.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "card.yaml")
	text := strings.Replace(string(card), profile.HardwareSchema, profile.HardwareSchema+".3", 1) + "later_key: 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = "vlmem/hardware/v1.3 is newer than vlmem/hardware/v1"
	for _, args := range [][]string{
		{"estimate", "--model", "qwen3-vl-2b", "--hardware", file},
		{"fleet", "i5-10210u+" + file, "--model", "qwen3-vl-2b"},
	} {
		if _, stderr, _ := runWith(t, nil, args...); strings.Count(stderr, want) != 1 {
			t.Errorf("%v: %q", args, stderr)
		}
	}
}
