package engine

import (
	"embed"
	"fmt"
	"slices"
	"strings"
)

// What each version takes, a name a line, followed by the values where they are enumerated; recorded from the release's
// own parser (tools/reference). The first line says how. An engine of a few settings has them in its own value.
//
//go:embed flags/*.txt
var flagLists embed.FS

// Flags are the names that an engine's version takes; those with enumerated values have them, the others none.
type Flags map[string][]string

// Flags is what the engine's version takes, empty where it reads no files.
func (e *Engine) Flags() Flags {
	if e.Takes != nil {
		return e.Takes
	}
	return flagsIn(e.list())
}

func flagsIn(list string) Flags {
	data, err := flagLists.ReadFile("flags/" + list)
	if err != nil {
		return nil
	}
	flags := Flags{}
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "#" {
			flags[fields[0]] = fields[1:]
		}
	}
	return flags
}

// list is the file with what this version takes.
func (e *Engine) list() string { return e.Name + "-" + strings.Fields(e.Version)[0] + ".txt" }

// refuse is the error for a setting that this version does not take: its reader would refuse the whole file.
func (e *Engine) refuse(s setting) error {
	values, known := e.Flags()[s.key]
	switch value := plain(s.value); {
	case !known:
		return fmt.Errorf("settings for %s: %s has no %s", e.Name, e.Spelled(), s.key)
	case len(values) > 0 && !slices.Contains(values, value):
		return fmt.Errorf("settings for %s: %s %q: %s takes %s", e.Name, s.key, value, e.Spelled(),
			strings.Join(values, ", "))
	}
	return nil
}
