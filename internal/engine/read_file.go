package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// The grammars of engines' files: words of a command line, name = value under [sections], a Modelfile, JSON, YAML.

// settingsIn are the names and values of a file, in its order. Its first line that says something tells which grammar
// it has.
func (e *Engine) settingsIn(name string, data []byte) ([]Stated, error) {
	text := strings.ReplaceAll(strings.TrimPrefix(string(data), "\ufeff"), "\r\n", "\n")
	first := ""
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !commented(line) {
			first = line
			break
		}
	}
	words := strings.Fields(first)
	switch {
	case first == "":
		return nil, nil
	case strings.HasPrefix(first, "{"):
		if e.Parser != nil { // JSON is YAML
			return e.yamlSettings(name, data)
		}
		return jsonSettings(name, data)
	case e.Modelfiles && startsInstruction(first):
		return modelfileSettings(name, text)
	case strings.HasPrefix(first, "[") && strings.HasSuffix(first, "]"), assigns(first) && !dashed(words[0]):
		return assignedSettings(name, text)
	case strings.HasSuffix(words[0], ":"), first == "---", strings.HasPrefix(first, "- "),
		!slices.ContainsFunc(words, dashed) && strings.Contains(first, ":"):
		return e.yamlSettings(name, data)
	}
	return e.argumentSettings(name, text)
}

func commented(line string) bool { return line == "" || line[0] == '#' || line[0] == ';' }

// assigns tells name = value, which may stand before the first section, from YAML, whose names end with a colon, and
// from a command with arguments.
func assigns(line string) bool {
	name, _, ok := strings.Cut(line, "=")
	return ok && !strings.Contains(name, ":") && len(strings.Fields(strings.TrimPrefix(name, "export "))) == 1
}

// assignedSettings are lines of name = value: of a preset, whose section [*] is of every model, or of an environment.
func assignedSettings(name, text string) (list []Stated, err error) {
	n, models := 0, []string(nil)
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		key, value, found := strings.Cut(line, "=")
		switch {
		case commented(line):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			if line != "[*]" && line != "[default]" {
				models = append(models, line)
			}
		case !found:
			return nil, fmt.Errorf("%s:%d: want name = value, found %q", name, n, line)
		default:
			key = strings.TrimSpace(strings.TrimPrefix(key, "export "))
			list = append(list, Stated{strings.TrimLeft(key, "-"), strings.Trim(strings.TrimSpace(value), `"'`)})
		}
	}
	if len(models) > 1 {
		return nil, fmt.Errorf("%s holds the settings of %d models, %s: keep one", name, len(models),
			strings.Join(models, ", "))
	}
	return list, nil
}

// instructions are those of an ollama Modelfile (parser/parser.go of 0.32.15).
var instructions = []string{"FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE", "RENDERER",
	"PARSER", "REQUIRES", "DRAFT"}

func startsInstruction(line string) bool {
	word, _, _ := strings.Cut(line, " ")
	return slices.Contains(instructions, strings.ToUpper(word))
}

// modelfileSettings are an ollama Modelfile's: parameters by name, and files by what they are. Texts between three
// quotes run over lines.
func modelfileSettings(name, text string) (list []Stated, err error) {
	n, quoted := 0, false
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if marks := strings.Count(line, `"""`); quoted || marks == 1 {
			quoted = quoted != (marks%2 == 1)
			continue
		}
		if commented(line) {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.Trim(strings.TrimSpace(rest), `"`)
		switch word = strings.ToUpper(word); {
		case !slices.Contains(instructions, word):
			return nil, fmt.Errorf("%s:%d: want an instruction such as FROM or PARAMETER, found %q", name, n, line)
		case word == "PARAMETER":
			key, value, found := strings.Cut(rest, " ")
			if !found {
				return nil, fmt.Errorf("%s:%d: PARAMETER %s is without its value", name, n, key)
			}
			list = append(list, Stated{key, strings.Trim(strings.TrimSpace(value), `"`)})
		case word == "FROM" && strings.Contains(strings.ToLower(rest), "mmproj"):
			list = append(list, Stated{"projector", rest})
		case word == "FROM", word == "ADAPTER", word == "DRAFT":
			list = append(list, Stated{strings.ToLower(word), rest})
		}
	}
	return list, nil
}

// jsonSettings are nested settings by name, those of a section as section.name; what lies deeper stays JSON.
func jsonSettings(name string, data []byte) (list []Stated, err error) {
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		return nil, fmt.Errorf("%s: reading JSON: %w", name, err)
	}
	for _, section := range sortedKeys(sections) {
		var inner map[string]json.RawMessage
		if json.Unmarshal(sections[section], &inner) != nil {
			list = append(list, Stated{section, jsonWord(sections[section])})
		}
		for _, key := range sortedKeys(inner) {
			list = append(list, Stated{section + "." + key, jsonWord(inner[key])})
		}
	}
	return list, nil
}

func sortedKeys(m map[string]json.RawMessage) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// jsonWord is a text without its quotes, and everything else as it stands.
func jsonWord(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(bytes.TrimSpace(raw))
}

func (e *Engine) yamlSettings(name string, data []byte) (list []Stated, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: want lines of --name and value, or YAML of names and values", name)
	}
	for pairs := document.Content[0].Content; len(pairs) > 1; pairs = pairs[2:] {
		node := pairs[1]
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		value := node.Value
		if node.Kind != yaml.ScalarNode {
			var tree any
			if err := node.Decode(&tree); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, node.Line, err)
			}
			text, err := json.Marshal(tree)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, node.Line, err)
			}
			value = string(text)
		}
		key := pairs[0].Value
		if e.Parser != nil && key != "schema" { // which is of a file of ours
			if key, err = e.name(key, true); err == nil {
				err = e.takes(key, value)
			}
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, pairs[0].Line, err)
			}
		}
		list = append(list, Stated{key, value})
	}
	return list, nil
}
