package engine

import (
	"fmt"
	"slices"
	"strings"
)

// ReadCommand reads the arguments of an engine's command line, under the names that its files have. Arguments that do
// not decide memory are passed over.
func (e *Engine) ReadCommand(args []string) (Reading, error) {
	var words []word
	for _, a := range args {
		words = append(words, word{token: a})
	}
	pairs, err := e.paired("", words, false)
	if err != nil {
		return Reading{}, err
	}
	pairs = slices.DeleteFunc(pairs, func(p Stated) bool { return !e.decides(p.Flag) })
	return e.reading("", pairs)
}

// argumentSettings are the arguments of a file: of a command, or an argument or several a line.
func (e *Engine) argumentSettings(name, text string) ([]Stated, error) {
	words, err := shellWords(name, text)
	if err != nil {
		return nil, err
	}
	if len(words) > 2 && strings.Contains(words[0].token, "python") && words[1].token == "-m" { // -m module
		words = words[2:]
	}
	first := slices.IndexFunc(words, func(w word) bool { return dashed(w.token) })
	if first > 0 && words[first].statement == words[0].statement {
		verb := slices.IndexFunc(words[:first], func(w word) bool { return e.Verb != "" && w.token == e.Verb })
		if verb < 0 {
			words = words[first:] // behind the program's name
		} else {
			words = words[verb:]
		}
	}
	return e.paired(name, words, true)
}

// word is one of a command line, and where it stands.
type word struct {
	token     string
	line      int
	statement int // lines that a backslash joins are one
}

// paired joins arguments with their values; strict refuses words that are neither.
func (e *Engine) paired(file string, words []word, strict bool) (pairs []Stated, err error) {
	for i := 0; i < len(words); i++ {
		name, value, joined := strings.Cut(words[i].token, "=")
		key := e.longName(strings.TrimLeft(name, "-"))
		if strict && e.Parser != nil && strings.HasPrefix(name, "--") {
			if key, err = e.name(name[2:], false); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, words[i].line, err)
			}
			key = e.longName(key)
		}
		follows := i+1 < len(words) && !dashed(words[i+1].token)
		where := ""
		if strict {
			where = fmt.Sprintf("%s:%d: ", file, words[i].line)
		}
		switch {
		case e.Verb != "" && words[i].token == e.Verb && follows:
			i++
			pairs = append(pairs, Stated{"model", words[i].token})
			continue
		case !dashed(words[i].token) && strict:
			return nil, fmt.Errorf("%swant a line of --name and value, found %q", where, words[i].token)
		case !dashed(words[i].token):
			continue
		case joined:
		case e.switches(key):
			value = "true"
		case follows:
			i++
			value = words[i].token
		case key == "flash-attn": // a switch in builds before September 2025
			value = "on"
		case e.decides(key):
			return nil, fmt.Errorf("%s%s is without its value", where, name)
		default:
			value = "true"
		}
		pairs = append(pairs, Stated{key, value})
	}
	return pairs, nil
}

// longName is the long name of an argument, however it is written: with _ for -, short, or as a variable of the
// environment.
func (e *Engine) longName(name string) string {
	if variable, ok := strings.CutPrefix(name, "LLAMA_ARG_"); ok && e.Variables != nil {
		name = strings.ToLower(variable)
		if other := e.Variables[strings.ReplaceAll(name, "_", "-")]; other != "" {
			return other
		}
	}
	name = strings.ReplaceAll(name, "_", "-")
	if long, ok := e.Shorts[name]; ok {
		return long
	}
	return name
}

// switches says that an argument takes no value.
func (e *Engine) switches(key string) bool {
	return slices.Contains(e.Switches, key) || e.Opposites[key] != ""
}

// decides says that an argument decides memory, whether the estimate knows it or not.
func (e *Engine) decides(key string) bool {
	return e.Spellings[key] != nil || e.Opposites[key] != "" || slices.Contains(e.Unreckoned, key)
}

// dashed tells an argument's name from a value, which may be a number below zero.
func dashed(word string) bool {
	return len(word) > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')
}

// shellWords takes a text apart as a shell does: by blanks outside quotes, a backslash before one of them or before
// the end of a line, and without comments.
func shellWords(file, text string) (list []word, err error) {
	var now strings.Builder
	line, statement, begun, open, opened := 1, 1, false, rune(0), 0
	end := func() {
		if begun {
			list = append(list, word{now.String(), line, statement})
		}
		now.Reset()
		begun = false
	}
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		last := i+1 == len(runes)
		switch {
		case r == '\\' && open != '\'' && !last && runes[i+1] == '\n':
			i++
			line++
		case r == '\\' && !last && (open == 0 || open == '"' && strings.ContainsRune("\\\"$`", runes[i+1])):
			i++
			now.WriteRune(runes[i])
			begun = true
		case open != 0 && r == open:
			open = 0
		case open != 0:
			now.WriteRune(r)
		case r == '\'' || r == '"':
			open, opened, begun = r, line, true
		case (r == '#' || r == ';') && !begun:
			for i+1 < len(runes) && runes[i+1] != '\n' {
				i++
			}
		case r == '\n' || r == ' ' || r == '\t':
			end()
		default:
			now.WriteRune(r)
			begun = true
		}
		if r == '\n' {
			line++
			statement++
		}
	}
	if open != 0 {
		return nil, fmt.Errorf("%s:%d: the quote %c is not closed", file, opened, open)
	}
	end()
	return list, nil
}
