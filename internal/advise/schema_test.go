package advise_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/units"
)

var update = flag.Bool("update", false, "write docs/config.schema.json and the tables of docs/configuration.md anew")

var schemaPath = filepath.Join("..", "..", "docs", "config.schema.json")

// schemaOf is the JSON Schema of a type as YAML writes it: Values are their plain value, Ranges pairs.
func schemaOf(t reflect.Type) *jsonschema.Schema {
	zero := 0.0
	switch {
	case t == reflect.TypeFor[units.Bytes]():
		return &jsonschema.Schema{Type: "integer", Minimum: &zero}
	case t == reflect.TypeFor[advise.Range]():
		two := 2
		return &jsonschema.Schema{Type: "array", Items: schemaOf(reflect.TypeFor[units.Bytes]()), MinItems: &two,
			MaxItems: &two}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem())
	case t.Kind() == reflect.Slice:
		return &jsonschema.Schema{Type: "array", Items: schemaOf(t.Elem())}
	case t.Kind() == reflect.Struct && strings.HasPrefix(t.Name(), "Value["):
		return schemaOf(t.Field(0).Type)
	case t.Kind() == reflect.Struct:
		return objectOf(t)
	}
	return &jsonschema.Schema{Type: map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer",
		reflect.Int64: "integer", reflect.Float64: "number"}[t.Kind()]}
}

func objectOf(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", Properties: map[string]*jsonschema.Schema{},
		AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for i := range t.NumField() {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		s.Properties[name] = schemaOf(t.Field(i).Type)
		s.PropertyOrder = append(s.PropertyOrder, name)
		if options != "omitempty" {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// describe puts the meaning, the unit and the readers of each key beside it.
func describe(path string, s *jsonschema.Schema) {
	for name, p := range s.Properties {
		at := strings.TrimPrefix(path+"."+name, ".")
		if p.Items != nil && p.Items.Type == "object" {
			describe(at+"[]", p.Items)
		}
		describe(at, p)
		if k, ok := keys[general(at)]; ok {
			p.Description = k.meaning
			if k.unit != "" {
				p.Description += " [" + k.unit + "]"
			}
		}
	}
}

func TestSchemaIsThatOfTheTypes(t *testing.T) {
	s := schemaOf(reflect.TypeFor[advise.Advice]())
	describe("", s)
	s.Schema, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema",
		"https://github.com/vlmem/vlmem/blob/main/docs/config.schema.json", "The configuration that vlmem advise writes"
	version := any(advise.Schema)
	s.Properties["schema"].Const = &version
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(schemaPath, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(schemaPath); err != nil || !slices.Equal(text, want) {
		t.Fatalf("%v: %s is not of the types; run go test ./internal/advise -update", err, schemaPath)
	}
}

// TestConfigurationsFollowTheSchema holds the committed configurations against the committed schema, and a wrong one
// too.
func TestConfigurationsFollowTheSchema(t *testing.T) {
	text, err := os.ReadFile(schemaPath)
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	s.ID = "" // a name, not an address
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join("..", "..", "cmd", "vlmem", "testdata", "advise_*.yaml"))
	if len(paths) == 0 {
		t.Fatal("no configurations to check")
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolved.Validate(plainValue(t, data)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if _, err := advise.Decode(path, data); err != nil {
			t.Error(err)
		}
		wrong := strings.Replace(string(data), "  low:", "  lowest:", 1)
		if err := resolved.Validate(plainValue(t, []byte(wrong))); err == nil {
			t.Errorf("%s: an unknown key passes", path)
		}
	}
}

// plainValue is a YAML document as JSON has it.
func plainValue(t *testing.T, data []byte) any {
	t.Helper()
	var v any
	if err := yaml.Load(data, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
