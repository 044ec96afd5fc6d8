package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
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
func plainly(names map[string]string) map[string][]spelling {
	m := map[string][]spelling{}
	for key, flag := range names {
		m[key] = []spelling{{flag: flag}}
	}
	return m
}

// Reading is what a file of an engine's settings says of memory.
type Reading struct {
	Stated     []Stated
	Unreckoned []string // settings that decide memory and that no estimate knows
	Left       []string // settings that are not looked at
}

// Names says that a setting is stated.
func (r Reading) Names(flag string) bool {
	return slices.ContainsFunc(r.Stated, func(s Stated) bool { return s.Flag == flag })
}

// ReadSettings reads a file of the engine's own settings: lines of --name and value, or of name = value, as
// llama-server takes them, or YAML of names without dashes as vLLM does. Names may be written with _ for -, as both
// engines take them.
func (e *Engine) ReadSettings(name string, data []byte) (r Reading, err error) {
	if e.Spellings == nil {
		return r, fmt.Errorf("%s: settings of %s are not read; of %s they are", name, e.Name,
			strings.Join(Names(func(e *Engine) bool { return e.Spellings != nil }), ", "))
	}
	pairs, err := settingsIn(name, data)
	if err != nil {
		return r, err
	}
	if slices.ContainsFunc(pairs, ours) {
		return r, fmt.Errorf("%s is a configuration of vlmem's own: want the file that %s reads, which "+
			"vlmem advise --for %s writes", name, e.Name, e.Name)
	}
	if r, err = e.reading(name+": ", pairs); err == nil && slices.Contains(e.Effects, "build") {
		r.state(Stated{"build", e.writtenFor(data)})
	}
	return r, err
}

// ours says that a file is a configuration of advise.
func ours(s Stated) bool { return s.Flag == "schema" && strings.HasPrefix(s.Value, "vlmem/") }

// writtenFor is the version that the head of a file of ours names, "" for a file of another hand. No engine has a
// setting for it, so that it stands in a comment, with the same words each time.
func (e *Engine) writtenFor(data []byte) string {
	head, _, _ := strings.Cut(string(data), "\n")
	_, version, _ := strings.Cut(strings.TrimLeft(head, "#; "), writtenBy+e.Product+" ")
	return strings.TrimSpace(version)
}

// reading sorts names and values by what they mean for memory; where they stand goes before what is wrong with them.
func (e *Engine) reading(where string, pairs []Stated) (r Reading, err error) {
	for _, p := range pairs {
		key := strings.ReplaceAll(p.Flag, "_", "-")
		spellings, ok := e.Spellings[key]
		switch {
		case !ok && slices.Contains(e.Unreckoned, key):
			r.Unreckoned = append(r.Unreckoned, key)
		case !ok:
			r.Left = append(r.Left, key)
		}
		for _, s := range spellings {
			value := p.Value
			if s.value != nil {
				if value, err = s.value(value); err != nil {
					return r, fmt.Errorf("%s%s: %w", where, key, err)
				}
			}
			r.state(Stated{s.flag, value})
		}
	}
	return r, nil
}

// state adds a setting. A cache's types are those of keys and of values, each f16 unless told; what is made of a
// checkpoint's type counts, the later of two load modes, and an image that is left out stays so.
func (r *Reading) state(s Stated) {
	at := slices.IndexFunc(r.Stated, func(x Stated) bool { return x.Flag == s.Flag })
	switch {
	case s.Value == "":
	case strings.HasPrefix(s.Flag, "kv-type") && at >= 0:
		r.Stated[at].Value = mergedTypes(r.Stated[at].Value, s.Value)
	case (s.Flag == "quant" || s.Flag == "load-mode") && at >= 0:
		r.Stated[at].Value = s.Value
	default:
		r.Stated = append(r.Stated, s)
	}
}

// keysOf and valuesOf are the types of a cache of which one is told.
func keysOf(v string) (string, error)   { return v + ",f16", nil }
func valuesOf(v string) (string, error) { return "f16," + v, nil }

// mergedTypes joins two such pairs, of which the later counts where both tell.
func mergedTypes(a, b string) string {
	keys, values, _ := strings.Cut(a, ",")
	k, v, _ := strings.Cut(b, ",")
	if k != "f16" {
		keys = k
	}
	if v != "f16" {
		values = v
	}
	return keys + "," + values
}

// settingsIn are the names and values of a file, in its order.
func settingsIn(name string, data []byte) (list []Stated, err error) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	sections := false
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		rest, dashed := strings.CutPrefix(line, "--")
		switch {
		case line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";"):
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			sections = true
		case !dashed && !sections && len(list) == 0 && !assigns(line):
			return yamlSettings(name, data)
		case !dashed && !sections && !assigns(line):
			return nil, fmt.Errorf("%s:%d: want a line of --name and value, found %q", name, n, line)
		default:
			key, value := rest, "true"
			if at := strings.IndexAny(rest, " \t="); at >= 0 {
				key, value = rest[:at], strings.TrimLeft(rest[at:], " \t=")
			}
			list = append(list, Stated{key, strings.Trim(strings.TrimSpace(value), `"'`)})
		}
	}
	return list, lines.Err()
}

// assigns tells name = value, which may stand before the first section, from YAML, whose names end with a colon.
func assigns(line string) bool {
	name, _, ok := strings.Cut(line, "=")
	return ok && !strings.Contains(name, ":")
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
		list = append(list, Stated{pairs[0].Value, value})
	}
	return list, nil
}

// quantSuffix is where names of GGUF files hold their type.
var quantSuffix = regexp.MustCompile(`(?i)[-.]((?:UD-)?(?:I?Q\d\w*|BF16|F16|F32|MXFP4\w*))\.gguf$`)

// fileHere is a file that is here, "" for one that is not: it is then known by its name alone.
func fileHere(name string) (string, error) {
	if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
		return name, nil
	}
	return "", nil
}

// fileNeeded is a file that must be here: nothing else says what it holds.
func fileNeeded(name string) (string, error) {
	if here, _ := fileHere(name); here != "" {
		return here, nil
	}
	return "", fmt.Errorf("%s is not here, and nothing else says what it holds", name)
}

// quantOf is the type of a GGUF that is not here, by its name.
func quantOf(name string) (string, error) {
	if here, _ := fileHere(name); here != "" {
		return "", nil
	}
	return quantInName(name)
}

// towerQuant is quantOf where the name says it, and else the engine's customary type.
func towerQuant(name string) (string, error) {
	quant, err := quantOf(name)
	if err != nil {
		return "", nil
	}
	return quant, nil
}

// switched is a word that a switch stands for where it is on.
func switched(word string) func(string) (string, error) {
	return func(value string) (string, error) {
		if on, err := strconv.ParseBool(value); err != nil || !on {
			return "", nil
		}
		return word, nil
	}
}

// repository and tag are the parts of a name such as Qwen/Qwen3-VL-8B-Instruct-GGUF:Q8_0.
func repository(value string) (string, error) {
	name, _, _ := strings.Cut(value, ":")
	return name, nil
}
func tag(value string) (string, error) {
	_, t, _ := strings.Cut(value, ":")
	return strings.ToLower(t), nil
}

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
	if n, err := strconv.Atoi(value); value == "all" || value == "auto" || err == nil && n < 0 {
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
