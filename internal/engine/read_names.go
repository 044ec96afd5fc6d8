package engine

import (
	"fmt"
	"slices"
	"strings"
)

// argparse is how an engine's own parser takes names and enumerated values, which it refuses unless its version has
// them: whole, or as the beginning of one name alone. Each was tried with the release's parser.
type argparse struct {
	underscores bool     // stand for dashes
	dotted      bool     // a name may go on with a key of its value, as in compilation-config.mode
	typedOnly   []string // are of the command line alone, and refused in a file
}

// name is what a name stands for, in a file or typed with two dashes.
func (e *Engine) name(name string, inFile bool) (string, error) {
	key := name
	if e.Parser.underscores {
		key = strings.ReplaceAll(key, "_", "-")
	}
	if e.Parser.dotted {
		key, _, _ = strings.Cut(key, ".")
	}
	found := e.beginning(key)
	short := e.Shorts[name]
	switch {
	case short != "" && (len(found) != 1 || e.longName(found[0]) != short):
		return "", fmt.Errorf("%s takes %s with one dash on the command line alone: write %s", e.Spelled(), name,
			short)
	case len(found) == 0 && strings.Contains(name, "_"):
		return "", fmt.Errorf("%s has no %s: with dashes it may be %s", e.Spelled(), name, strings.ReplaceAll(name, "_", "-"))
	case len(found) == 0:
		return "", fmt.Errorf("%s has no %s, and would not start", e.Spelled(), name)
	case len(found) > 1:
		return "", fmt.Errorf("%s does not take %s, which may be %s", e.Spelled(), name, strings.Join(found, ", "))
	case inFile && slices.Contains(e.Parser.typedOnly, found[0]):
		return "", fmt.Errorf("%s takes %s on the command line alone, not in a file", e.Spelled(), found[0])
	}
	return found[0], nil
}

// beginning are the names that a text is the whole of, or else begins; of many the first few.
func (e *Engine) beginning(text string) (found []string) {
	const few = 4
	flags := e.Flags()
	if _, whole := flags[text]; whole {
		return []string{text}
	}
	for flag := range flags {
		if text != "" && strings.HasPrefix(flag, text) {
			found = append(found, flag)
		}
	}
	slices.Sort(found)
	return found[:min(few, len(found))]
}

// takes refuses a value that is not among those of its name.
func (e *Engine) takes(key, value string) error {
	values := e.Flags()[key]
	if len(values) == 0 || slices.Contains(values, value) || strings.ContainsAny(value, " ,[{") {
		return nil
	}
	return fmt.Errorf("%s %q: %s takes %s", key, value, e.Spelled(), strings.Join(values, ", "))
}

// known reports whether a setting is one of the engine's, whether memory depends on it or not. Sections of JSON stand
// before a dot.
func (e *Engine) known(key string) bool {
	if e.decides(key) || e.switches(key) || e.Shorts[key] != "" {
		return true
	}
	flags, last := e.Flags(), key[strings.LastIndexByte(key, '.')+1:]
	for _, name := range []string{last, strings.ReplaceAll(last, "-", "_")} {
		if _, found := flags[name]; found {
			return true
		}
	}
	return false
}

// tokensOf is a number of tokens as vLLM and SGLang take it: 8k are 8,000 and 8K 8,192 (human_readable_int).
func tokensOf(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	scale := map[byte]float64{'k': 1e3, 'm': 1e6, 'K': 1 << 10, 'M': 1 << 20}[value[len(value)-1]]
	if scale == 0 {
		return value, nil
	}
	var number float64
	if _, err := fmt.Sscanf(value[:len(value)-1], "%g", &number); err != nil {
		return "", fmt.Errorf("%q: want a number of tokens, such as 8192, 8k for 8,000 or 8K for 8,192", value)
	}
	return fmt.Sprintf("%.0f", number*scale), nil
}

// contextOf is tokensOf for a length that may be left to the engine.
func contextOf(value string) (string, error) {
	if value == "auto" || value == "-1" {
		return "", fmt.Errorf("%s shortens the context to what is left, so that whatever is left fits: state the tokens "+
			"that you need", value)
	}
	return tokensOf(value)
}
