package engine

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// The writers below spell settings in the grammars that engines read. Comments carry the reasons.

const writtenBy = "written by vlmem for "

// yamlText is a flat YAML document; nested values are flow mappings, which vLLM and SGLang turn into JSON.
func yamlText(version string, l lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\n", writtenBy, version)
	for _, s := range l {
		fmt.Fprintf(&b, "%s: %s", s.key, jsonValue(s.value))
		if s.why != "" {
			fmt.Fprintf(&b, "  # %s", s.why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// jsonValue is v as JSON, which is YAML and, but for true and false, Python as well.
func jsonValue(v any) string {
	switch v := v.(type) {
	case []setting:
		var parts []string
		for _, s := range v {
			parts = append(parts, jsonValue(s.key)+": "+jsonValue(s.value))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case units.Bytes:
		return strconv.FormatInt(int64(v), 10)
	}
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(data)
}

// argumentText is one argument a line, as xargs reads it.
func argumentText(version string, l lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\n", writtenBy, version)
	for _, s := range l {
		fmt.Fprintf(&b, "# %s\n%s\n", s.why, s.argument())
	}
	return b.String()
}

// argument is a setting on a command line; a flag stands alone.
func (s setting) argument() string {
	if s.value == true {
		return "--" + s.key
	}
	return "--" + s.key + " " + shellWord(plain(s.value))
}

// iniText is a preset of llama-server: a version, a section, long argument names without dashes. Comments have their
// own lines, because # and ; end a value.
func iniText(version, section string, l lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "; %s%s\nversion = 1\n\n[%s]\n", writtenBy, version, section)
	for _, s := range l {
		fmt.Fprintf(&b, "; %s\n%s = %s\n", s.why, s.key, plain(s.value))
	}
	return b.String()
}

// envText is one assignment a line, for a shell or a systemd EnvironmentFile.
func envText(version string, l lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\n", writtenBy, version)
	for _, s := range l {
		fmt.Fprintf(&b, "# %s\n%s=%s\n", s.why, s.key, shellWord(plain(s.value)))
	}
	return b.String()
}

// modelfileText is an ollama Modelfile. Comments have their own lines: the value of a parameter runs to the line's end.
func modelfileText(version, from, projector string, l lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\nFROM %s\n", writtenBy, version, from)
	if projector != "" {
		fmt.Fprintf(&b, "FROM %s\n", projector)
	}
	for _, s := range l {
		fmt.Fprintf(&b, "# %s\nPARAMETER %s %s\n", s.why, s.key, plain(s.value))
	}
	return b.String()
}

// jsonText is nested settings as an indented JSON document, in the order given.
func jsonText(l lines) string {
	var b strings.Builder
	b.WriteString("{\n")
	for i, part := range l {
		fmt.Fprintf(&b, "  %s: {", jsonValue(part.key))
		inner := part.value.([]setting)
		for j, s := range inner {
			fmt.Fprintf(&b, "\n    %s: %s%s", jsonValue(s.key), jsonValue(s.value), comma(j, len(inner)))
		}
		if len(inner) > 0 {
			b.WriteString("\n  ")
		}
		fmt.Fprintf(&b, "}%s\n", comma(i, len(l)))
	}
	b.WriteString("}\n")
	return b.String()
}

func comma(i, n int) string {
	if i < n-1 {
		return ","
	}
	return ""
}

// pythonText defines load(), which returns the model, the processor and the arguments of generate. The image
// processor's size is set once it is loaded: given to from_pretrained, it reaches the video processor too. Threads are
// set first: loading computes as well.
func pythonText(version string, model, images, generate, torch lines) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s%s\nimport torch\nfrom transformers import AutoModelForImageTextToText, AutoProcessor\n\n",
		writtenBy, version)
	for _, part := range []struct {
		name string
		list lines
	}{{"FROM_PRETRAINED", model}, {"IMAGE_PROCESSOR", images}, {"GENERATE", generate}, {"TORCH", torch}} {
		fmt.Fprintf(&b, "%s = {\n", part.name)
		for _, s := range part.list {
			fmt.Fprintf(&b, "    %s: %s,  # %s\n", jsonValue(s.key), pythonValue(s), s.why)
		}
		b.WriteString("}\n")
	}
	b.WriteString("\n\ndef load():\n")
	b.WriteString("    for name, value in TORCH.items():\n")
	b.WriteString("        getattr(torch, name)(value)\n")
	b.WriteString("    path = FROM_PRETRAINED[\"pretrained_model_name_or_path\"]\n")
	b.WriteString("    model = AutoModelForImageTextToText.from_pretrained(**FROM_PRETRAINED)\n")
	b.WriteString("    processor = AutoProcessor.from_pretrained(path)\n")
	b.WriteString("    for name, value in IMAGE_PROCESSOR.items():\n")
	b.WriteString("        setattr(processor.image_processor, name, value)\n")
	b.WriteString("    return model, processor, GENERATE\n")
	return b.String()
}

// pythonValue is as jsonValue, but for truth and max_memory, which names cards by number.
func pythonValue(s setting) string {
	if truth, ok := s.value.(bool); ok {
		return map[bool]string{true: "True", false: "False"}[truth]
	}
	list, nested := s.value.([]setting)
	if s.key != "max_memory" || !nested {
		return jsonValue(s.value)
	}
	var parts []string
	for _, m := range list {
		key := m.key
		if _, err := strconv.Atoi(key); err != nil {
			key = jsonValue(key)
		}
		parts = append(parts, key+": "+jsonValue(m.value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// plain is a value without quotes.
func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case units.Bytes:
		return strconv.FormatInt(int64(v), 10)
	}
	return fmt.Sprint(v)
}

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:,=+@-", r) {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	if s == "" {
		return "''"
	}
	return s
}
