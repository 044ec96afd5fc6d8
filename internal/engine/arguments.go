package engine

import (
	"fmt"
	"slices"
	"strings"
)

// ReadCommand reads the arguments of an engine's command line, under the names that its files have. Arguments that do
// not decide memory are passed over.
func (e *Engine) ReadCommand(args []string) (Reading, error) {
	var pairs []Stated
	for i := 0; i < len(args); i++ {
		word, value, joined := strings.Cut(args[i], "=")
		key := strings.ReplaceAll(strings.TrimLeft(word, "-"), "_", "-")
		if long, ok := e.Shorts[key]; ok {
			key = long
		}
		follows := i+1 < len(args) && !dashed(args[i+1])
		switch {
		case e.Verb != "" && word == e.Verb && follows:
			i++
			pairs = append(pairs, Stated{"model", args[i]})
			continue
		case !dashed(word) || !e.decides(key):
			continue
		case slices.Contains(e.Switches, key) && !joined:
			value = "true"
		case !joined && follows:
			i++
			value = args[i]
		case !joined && key == "flash-attn": // a switch in builds before September 2025
			value = "on"
		case !joined:
			return Reading{}, fmt.Errorf("%s is without its value", word)
		}
		pairs = append(pairs, Stated{key, value})
	}
	return e.reading("", pairs)
}

// decides says that an argument decides memory, whether the estimate knows it or not.
func (e *Engine) decides(key string) bool {
	return e.Spellings[key] != nil || slices.Contains(e.Unreckoned, key)
}

// dashed tells an argument's name from a value, which may be a number below zero.
func dashed(word string) bool {
	return len(word) > 1 && word[0] == '-' && (word[1] < '0' || word[1] > '9')
}
