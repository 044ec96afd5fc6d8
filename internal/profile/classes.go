package profile

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// classesJSON is the defaults of transformers' configuration classes, recorded by tools/reference/models/classes.py.
//
//go:embed classes.json
var classesJSON []byte

// class is what a configuration class says without a file: the defaults of its own fields, which names stand for which
// (attribute_map), and the classes of the configurations within it.
type class struct {
	Defaults map[string]json.RawMessage `json:"defaults"`
	Renamed  map[string]string          `json:"renamed"`
	Parts    map[string]string          `json:"parts"`
	Optional []string                   `json:"optional"` // of the parts, those that may be absent
}

// classTable is the classes of one release of transformers by model_type.
type classTable struct {
	Release string           `json:"release"`
	Classes map[string]class `json:"classes"`
}

// classes reads the recorded table. It is embedded: it reads, or the program was not built.
func classes() classTable {
	var t classTable
	if err := json.Unmarshal(classesJSON, &t); err != nil {
		panic(err)
	}
	return t
}

// reader is what the parts of one config.json share.
type reader struct {
	name   string // of the file
	data   []byte
	table  classTable
	absent []string // keys that were read and not there, with the class's default
	err    error    // the first
}

// keys is one configuration, whole or part, over its class's defaults: a key that the file has goes first, null
// included, which Python reads as None; then its other name; then the class's default.
type keys struct {
	*reader
	path  string // "text_config."
	kind  string // its model_type
	given map[string]json.RawMessage
	outer *keys // of a tower, the configuration that it is a part of
}

// openConfig reads the outermost braces of a config.json. Python writes NaN and Infinity, which JSON has not; no key
// that holds one decides memory.
func openConfig(name string, data []byte) (keys, error) {
	r := &reader{name: name, data: plainJSON(data), table: classes()}
	k := keys{reader: r}
	if err := json.Unmarshal(r.data, &k.given); err != nil {
		return k, jsonError(name, r.data, err)
	}
	kind, ok := k.given["model_type"]
	if !ok || json.Unmarshal(kind, &k.kind) != nil || k.kind == "" {
		return k, fmt.Errorf("%s: no model_type: is this the config.json of a Hugging Face model?", name)
	}
	return k, nil
}

// plainJSON puts null in place of the numbers that Python writes and JSON has not, outside strings.
func plainJSON(data []byte) []byte {
	if !bytes.Contains(data, []byte("Infinity")) && !bytes.Contains(data, []byte("NaN")) {
		return data
	}
	var out bytes.Buffer
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\' && i+1 < len(data):
			out.Write(data[i : i+2])
			i++
			continue
		case c == '"':
			quoted = !quoted
		case !quoted:
			if word := pythonNumber(data[i:]); word != "" {
				out.WriteString("null")
				i += len(word) - 1
				continue
			}
		}
		out.WriteByte(data[i])
	}
	return out.Bytes()
}

func pythonNumber(rest []byte) string {
	for _, word := range []string{"-Infinity", "Infinity", "NaN"} {
		if bytes.HasPrefix(rest, []byte(word)) {
			return word
		}
	}
	return ""
}

// part is a configuration within this one; where the file has none, all of it is the class's.
func (k keys) part(name string) keys {
	p := keys{reader: k.reader, path: k.path + name + ".", kind: k.table.Classes[k.kind].Parts[name]}
	raw, ok := k.given[name]
	if ok && string(raw) != "null" {
		if err := json.Unmarshal(raw, &p.given); err != nil {
			k.fail(name, raw, "an object")
		}
	}
	// Where any class may stand the file names it; Qwen's towers name themselves after the whole.
	if kind := p.text("model_type"); kind != "" {
		if c, known := k.table.Classes[kind]; known && len(c.Parts) == 0 {
			p.kind = kind
		}
	}
	return p
}

// find is a key's value and whether the file itself has it; nil where it is null or unknown.
func (k keys) find(name string) (raw json.RawMessage, given bool) {
	c := k.table.Classes[k.kind]
	names := []string{name}
	for from, to := range c.Renamed {
		if from == name {
			names = append(names, to)
		} else if to == name {
			names = append(names, from)
		}
	}
	for _, n := range names {
		if raw, ok := k.given[n]; ok {
			if string(raw) == "null" {
				return nil, true
			}
			return raw, true
		}
	}
	for _, n := range names {
		if raw, ok := c.Defaults[n]; ok && string(raw) != "null" {
			return raw, false
		}
	}
	return nil, false
}

// fail keeps the first fault, with the line of the key.
func (k keys) fail(name string, raw json.RawMessage, want string) {
	if k.err != nil {
		return
	}
	at := bytes.Index(k.data, raw)
	for from := 0; ; { // the value after this key, not the same value elsewhere
		i := bytes.Index(k.data[from:], []byte(`"`+name+`"`))
		if i < 0 {
			break
		}
		from += i + len(name) + 2
		if bytes.HasPrefix(bytes.TrimLeft(k.data[from:], ": \t\r\n"), raw) {
			at = from
			break
		}
	}
	k.reader.err = fmt.Errorf("%s:%d: %s%s is %s, want %s", k.name, line(k.data, int64(at)), k.path, name, kindOf(raw),
		want)
}

// kindOf names what a JSON value is.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "true or false"
	}
	return string(raw)
}

// optional is a whole number, 0 where neither file nor class has one; sides given one by one count once where they are
// alike.
func (k keys) optional(name string) int {
	raw, given := k.find(name)
	if raw == nil {
		return 0
	}
	var sides []float64
	if raw[0] == '[' {
		if json.Unmarshal(raw, &sides) != nil || len(sides) == 0 || slices.Max(sides) != slices.Min(sides) {
			k.fail(name, raw, "a number")
			return 0
		}
	} else if sides = make([]float64, 1); json.Unmarshal(raw, &sides[0]) != nil {
		k.fail(name, raw, "a number")
		return 0
	}
	n := int(sides[0])
	if float64(n) != sides[0] {
		k.fail(name, raw, "a whole number")
	}
	if !given && n > 1 {
		k.defaulted(name, n)
	}
	return n
}

// defaulted notes what the class gave.
func (k keys) defaulted(name string, value any) {
	note := fmt.Sprintf("%s%s %v", k.path, name, value)
	if !slices.Contains(k.absent, note) {
		k.reader.absent = append(k.reader.absent, note)
	}
}

// number is a whole number above zero.
func (k keys) number(name string) int {
	n := k.optional(name)
	if raw, _ := k.find(name); n <= 0 && k.err == nil {
		if raw == nil {
			k.reader.err = fmt.Errorf("%s: %s%s missing", k.name, k.path, name)
		} else {
			k.reader.err = fmt.Errorf("%s: %s%s is %d and must be above zero", k.name, k.path, name, n)
		}
	}
	return n
}

// or is a number, or another where it is absent or 0.
func (k keys) or(name string, otherwise int) int {
	if n := k.optional(name); n > 0 {
		return n
	}
	return otherwise
}

func (k keys) flag(name string) bool {
	raw, _ := k.find(name)
	var b bool
	if raw != nil && json.Unmarshal(raw, &b) != nil {
		k.fail(name, raw, "true or false")
	}
	return b
}

func (k keys) text(name string) string {
	raw, _ := k.find(name)
	var s string
	if raw != nil {
		_ = json.Unmarshal(raw, &s) // what is no string names nothing
	}
	return s
}

func (k keys) strings(name string) (list []string) {
	if raw, _ := k.find(name); raw != nil && json.Unmarshal(raw, &list) != nil {
		k.fail(name, raw, "a list of strings")
	}
	return list
}

func (k keys) numbers(name string) (list []int) {
	raw, given := k.find(name)
	if raw == nil {
		return nil
	}
	if json.Unmarshal(raw, &list) != nil {
		k.fail(name, raw, "a list of whole numbers")
	} else if !given && len(list) > 0 {
		k.defaulted(name, list)
	}
	return list
}

// wrong keeps the first fault.
func (k keys) wrong(format string, args ...any) {
	if k.err == nil {
		k.reader.err = fmt.Errorf("%s: "+format, append([]any{k.name}, args...)...)
	}
}

// sizes are numbers from one to a limit: what is counted multiplies them.
func (k keys) sizes(name string, most int) []int {
	list := k.numbers(name)
	for _, n := range list {
		if n < 1 || n > most {
			k.wrong("%s%s has %d, want 1 to %d", k.path, name, n, most)
			return nil
		}
	}
	return list
}

// side is the side of an image in pixels.
func (k keys) side() int {
	n := k.number("image_size")
	if n > mostImageSide {
		k.wrong("%simage_size is %d, at most %d make sense", k.path, n, mostImageSide)
		return 1
	}
	return n
}

// declares reports whether the class has a field of this name: others a file may hold, and the class passes them over.
func (k keys) declares(name string) bool {
	_, ok := k.table.Classes[k.kind].Defaults[name]
	return ok
}

// count is how many numbers a key gives, one or a list of them.
func (k keys) count(name string) int {
	raw, _ := k.find(name)
	var list []int
	switch {
	case raw == nil:
		return 0
	case raw[0] == '[' && json.Unmarshal(raw, &list) == nil:
		return len(list)
	}
	return 1
}

// object is the part of a key that is no configuration class.
func (k keys) object(name string) keys {
	p := keys{reader: k.reader, path: k.path + name + "."}
	if raw, _ := k.find(name); raw != nil && json.Unmarshal(raw, &p.given) != nil {
		k.fail(name, raw, "an object")
	}
	return p
}

// fraction is a number with a point.
func (k keys) fraction(name string) (f float64) {
	if raw, _ := k.find(name); raw != nil && json.Unmarshal(raw, &f) != nil {
		k.fail(name, raw, "a number")
	}
	return f
}

// jsonError puts name and line before what the decoder says.
func jsonError(name string, data []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%s:%d: %w", name, line(data, syntax.Offset), err)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%s:%d: the file is a %s, want an object", name, line(data, kind.Offset), kind.Value)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func line(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(max(offset, 0), int64(len(data)))], []byte("\n"))
}

// defaultedNote is the sentence that says which keys of a config.json were absent and what its class gave them; "" for
// none.
func (r *reader) defaultedNote() string {
	if len(r.absent) == 0 {
		return ""
	}
	return fmt.Sprintf("absent keys take the defaults of transformers %s: %s", r.table.Release, strings.Join(r.absent,
		", "))
}

// order is the names within an object in the order of the file, which a map loses: of rules the first holds.
func (k keys) order(name string, object keys) (list []string) {
	d := json.NewDecoder(bytes.NewReader(k.given[name]))
	if object.given == nil {
		return nil
	}
	for _, err := d.Token(); err == nil && d.More(); {
		var key json.Token
		var value json.RawMessage
		if key, err = d.Token(); err == nil {
			list, err = append(list, fmt.Sprint(key)), d.Decode(&value)
		}
	}
	return list
}

// nested is a list of names, or of lists of them.
func (k keys) nested(name string) (list []string) {
	raw, _ := k.find(name)
	var outer []json.RawMessage
	if raw == nil || json.Unmarshal(raw, &outer) != nil {
		return nil
	}
	for _, part := range outer {
		var one string
		var several []string
		if json.Unmarshal(part, &one) == nil {
			list = append(list, one)
		} else if json.Unmarshal(part, &several) == nil {
			list = append(list, several...)
		}
	}
	return list
}

// has reports whether the file itself has an object of this name.
func (k keys) has(name string) bool { return bytes.HasPrefix(k.given[name], []byte("{")) }

// without reports whether there is no part of this name: the file says so, or has none where the class does without.
func (k keys) without(name string) bool {
	raw, given := k.given[name]
	return string(raw) == "null" || !given && slices.Contains(k.table.Classes[k.kind].Optional, name)
}
