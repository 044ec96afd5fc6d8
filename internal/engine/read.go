package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
	Unknown    []string // settings that this version of the engine does not have
	Moved      bool     // of the unreckoned, one takes weights off the card
	Tower      bool     // images are read: a tower is named, or a repository that has one
}

// Names says that a setting is stated.
func (r Reading) Names(flag string) bool {
	return slices.ContainsFunc(r.Stated, func(s Stated) bool { return s.Flag == flag })
}

// ReadSettings reads a file of the engine's own settings, as the engine reads it and as advise writes it. Names may be
// written with _ for -, short, or as variables of the environment, where the engine takes them so.
func (e *Engine) ReadSettings(name string, data []byte) (r Reading, err error) {
	if e.Spellings == nil {
		return r, fmt.Errorf("%s: settings of %s are not read; of %s they are", name, e.Name,
			strings.Join(Names(func(e *Engine) bool { return e.Spellings != nil }), ", "))
	}
	if strings.HasSuffix(name, ".py") {
		return r, fmt.Errorf("%s is a program, which is not run here: want the JSON that advise writes beside it", name)
	}
	data = []byte(asUTF8(data)) // as PowerShell writes it
	pairs, err := e.settingsIn(name, data)
	if err != nil {
		return r, err
	}
	if slices.ContainsFunc(pairs, ours) {
		return r, fmt.Errorf("%s is a configuration of vlmem's own: want the file that %s reads, which "+
			"vlmem advise --for %s writes", name, e.Name, e.Name)
	}
	if r, err = e.reading(name+": ", pairs); err == nil && e.Builds() {
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
		key := e.longName(p.Flag)
		if p, err = e.upright(key, p); err != nil {
			return r, fmt.Errorf("%s%s: %w", where, key, err)
		}
		key = e.longName(p.Flag)
		r.Tower = r.Tower || slices.Contains([]string{"mmproj", "mmproj-url", "hf-repo"}, key)
		spellings, ok := e.Spellings[key]
		switch {
		case key == deviceMap && strings.HasPrefix(p.Value, "{"):
			r.Unreckoned, r.Moved = append(r.Unreckoned, "device_map of modules"), true
			continue
		case key == "device" && strings.Contains(p.Value, "RPC"): // another machine's
			r.Unreckoned, r.Moved = append(r.Unreckoned, key), true
			continue
		case !ok && slices.Contains(e.Unreckoned, key):
			r.Unreckoned = append(r.Unreckoned, key)
		case !ok && !e.known(key) && !apart(key) && !strings.HasPrefix(p.Value, "{"):
			r.Unknown = append(r.Unknown, key)
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

// apart reports whether a name is no setting of an engine: a variable of the environment, or a preset's version.
func apart(key string) bool { return key == "version" || strings.ToUpper(key) == key }

// upright is a setting whose value decides what it is: a switch by the word that it is on or off with, --warmup as
// --no-warmup is not, and no device at all.
func (e *Engine) upright(key string, p Stated) (Stated, error) {
	if e.switches(key) {
		on := slices.Contains([]string{"true", "on", "enabled", "1"}, p.Value)
		if !on && !slices.Contains([]string{"false", "off", "disabled", "0"}, p.Value) {
			return p, fmt.Errorf("%q: want true or false", p.Value)
		}
		if other := e.Opposites[key]; other != "" {
			key, on = other, !on
		}
		return Stated{key, strconv.FormatBool(on)}, nil
	}
	if !slices.Contains(e.Effects, "backend") {
		return p, nil
	}
	switch {
	case key == "device" && p.Value == "none":
		return Stated{"no-device", "true"}, nil
	case key == "mmproj-device" && p.Value == "none":
		return Stated{"no-mmproj-offload", "true"}, nil
	}
	return p, nil
}

// state adds a setting. A cache's types are those of keys and of values, each f16 unless told; what is made of a
// checkpoint's type counts, the later of two load modes, and an image that is left out stays so.
func (r *Reading) state(s Stated) {
	at := slices.IndexFunc(r.Stated, func(x Stated) bool { return x.Flag == s.Flag })
	switch {
	case s.Value == "":
	case strings.HasPrefix(s.Flag, "kv-type") && at >= 0:
		r.Stated[at].Value = mergedTypes(r.Stated[at].Value, s.Value)
	case s.Flag == "load-mode" && at >= 0 && slices.Contains([]string{"none mmap+mlock", "mmap+mlock none"},
		r.Stated[at].Value+" "+s.Value):
		r.Stated[at].Value = "mlock" // --no-mmap and --mlock, in whichever order
	case (s.Flag == "quant" || s.Flag == "load-mode") && at >= 0:
		r.Stated[at].Value = s.Value
	default:
		r.Stated = append(r.Stated, s)
	}
}

// keysOf and valuesOf are the types of a cache of which one is told, in the words that llama.cpp takes letter by
// letter.
func keysOf(v string) (string, error)   { return v + ",f16", cacheWord(v) }
func valuesOf(v string) (string, error) { return "f16," + v, cacheWord(v) }

func cacheWord(v string) error {
	if !slices.Contains(llamaCacheTypes, v) {
		return fmt.Errorf("%q: want one of %s", v, strings.Join(llamaCacheTypes, ", "))
	}
	return nil
}

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

// ownSlots is llama-server's number of slots, "" for one below zero: its own.
func ownSlots(value string) (string, error) {
	if n, err := strconv.Atoi(value); err == nil && n < 0 {
		return "", nil
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

// imageOfArea is an image as large as an image processor's limit, whose sides are whole tokens of 32 pixels: the
// squarest of them.
func imageOfArea(value string) (string, error) {
	var limits struct {
		Longest int `json:"longest_edge"`
		Size    struct {
			Longest int `json:"longest_edge"`
		} `json:"size"`
		Image struct {
			Size struct {
				Longest int `json:"longest_edge"`
			} `json:"size"`
		} `json:"image"`
	}
	if err := json.Unmarshal([]byte(value), &limits); err != nil {
		return "", fmt.Errorf("want JSON of sizes, found %q", value)
	}
	const side = 32
	tokens := max(limits.Longest, limits.Size.Longest, limits.Image.Size.Longest) / (side * side)
	for n := int(math.Sqrt(float64(tokens))); n > 0; n-- {
		if tokens%n == 0 {
			return fmt.Sprintf("%dx%d", side*(tokens/n), side*n), nil
		}
	}
	return "", nil
}

// modelOfExport and quantOfExport are the model and the precision in a folder's name, as advise names what an engine's
// own tool exports.
func modelOfExport(forms []Form) func(string) (string, error) {
	return func(folder string) (string, error) {
		name := folder[strings.LastIndexAny(strings.TrimRight(folder, "/"), "/")+1:]
		for _, f := range forms {
			name = strings.TrimSuffix(strings.TrimRight(name, "/"), f.Suffix)
		}
		return name, nil
	}
}

func quantOfExport(forms []Form) func(string) (string, error) {
	return func(folder string) (string, error) {
		for _, f := range forms {
			if strings.HasSuffix(strings.TrimRight(folder, "/"), f.Suffix) {
				return f.Name, nil
			}
		}
		return "", nil
	}
}
