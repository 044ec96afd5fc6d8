package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Stated is a setting that a file of an engine states, as estimate's flag takes it.
type Stated struct{ Flag, Value string }

// spelling is how a setting of an engine's file becomes a flag of estimate.
type spelling struct {
	flag  string
	value func(string) (string, error) // nil: as it stands
}

// plainly are settings that estimate takes as they stand, by their names in the file.
func plainly(names map[string]string) map[string]spelling {
	m := map[string]spelling{}
	for key, flag := range names {
		m[key] = spelling{flag: flag}
	}
	return m
}

// ReadSettings reads what a file of the engine's own settings says of memory: lines of --name and value as llama-server
// takes them, or YAML of names without dashes as vLLM does. Settings that decide no memory, and those that are not
// known to, come back as left out.
func (e *Engine) ReadSettings(name string, data []byte) (stated []Stated, left []string, err error) {
	if e.Spellings == nil {
		return nil, nil, fmt.Errorf("%s: settings of %s are not read; of %s they are", name, e.Name,
			strings.Join(Names(func(e *Engine) bool { return e.Spellings != nil }), ", "))
	}
	pairs, err := settingsIn(name, data)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range pairs {
		s, ok := e.Spellings[p.Flag]
		if !ok {
			left = append(left, p.Flag)
			continue
		}
		if s.value != nil {
			if p.Value, err = s.value(p.Value); err != nil {
				return nil, nil, fmt.Errorf("%s: %s: %w", name, p.Flag, err)
			}
		}
		at := slices.IndexFunc(stated, func(x Stated) bool { return x.Flag == s.flag })
		switch {
		case p.Value == "":
		case s.flag == "kv-type" && at >= 0: // of keys, then of values
			stated[at].Value += "," + p.Value
		case s.flag == "quant" && at >= 0: // what is made of the type that the checkpoint has
			stated[at].Value = p.Value
		default:
			stated = append(stated, Stated{s.flag, p.Value})
		}
	}
	return stated, left, nil
}

// settingsIn are the names and values of a file, in its order.
func settingsIn(name string, data []byte) (list []Stated, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		switch rest, ok := strings.CutPrefix(line, "--"); {
		case line == "" || strings.HasPrefix(line, "#"):
		case !ok && len(list) == 0:
			return yamlSettings(name, data)
		case !ok:
			return nil, fmt.Errorf("%s:%d: want a line of --name and value, found %q", name, n, line)
		default:
			key, value, given := strings.Cut(rest, " ")
			if !given {
				value = "true"
			}
			list = append(list, Stated{key, strings.Trim(strings.TrimSpace(value), `"`)})
		}
	}
	return list, lines.Err()
}

func yamlSettings(name string, data []byte) (list []Stated, err error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s: want lines of --name and value, or YAML of names and values", name)
	}
	for pairs := document.Content[0].Content; len(pairs) > 1; pairs = pairs[2:] {
		value := pairs[1].Value
		if pairs[1].Kind != yaml.ScalarNode {
			var tree any
			if err := pairs[1].Decode(&tree); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, pairs[1].Line, err)
			}
			text, err := json.Marshal(tree)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", name, pairs[1].Line, err)
			}
			value = string(text)
		}
		list = append(list, Stated{pairs[0].Value, value})
	}
	return list, nil
}

// quantSuffix is where names of GGUF files hold their type.
var quantSuffix = regexp.MustCompile(`(?i)[-.]((?:UD-)?(?:I?Q\d\w*|BF16|F16|F32|MXFP4\w*))\.gguf$`)

// quantInName is the type that a GGUF file's name ends with.
func quantInName(name string) (string, error) {
	m := quantSuffix.FindStringSubmatch(name)
	if m == nil {
		return "", fmt.Errorf("the name %q does not end with the type of its weights, as in model-Q8_0.gguf", name)
	}
	return strings.ToLower(m[1]), nil
}

// allLayers is llama.cpp's number of layers on the card as estimate takes it.
func allLayers(value string) (string, error) {
	if value == "all" || value == "auto" {
		return "-1", nil
	}
	return value, nil
}

// largestImage is the image of vLLM's limit-mm-per-prompt.
func largestImage(value string) (string, error) {
	var limits struct {
		Image json.RawMessage `json:"image"`
	}
	if err := json.Unmarshal([]byte(value), &limits); err != nil {
		return "", fmt.Errorf("want JSON as {\"image\": 1}, found %q", value)
	}
	var sides struct{ Width, Height int }
	switch string(limits.Image) {
	case "", "null":
		return "", nil
	case "0":
		return "none", nil
	}
	if err := json.Unmarshal(limits.Image, &sides); err != nil || sides.Width == 0 || sides.Height == 0 {
		return "", nil // a count
	}
	return fmt.Sprintf("%dx%d", sides.Width, sides.Height), nil
}
