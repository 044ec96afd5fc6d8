package catalog

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// Machines are the hardware that patterns stand for, each name once, in their order. Of machines whose files cannot be
// used it returns why; where none can be, or a pattern stands for none, that is the error.
func Machines(patterns []string) (names []string, list []profile.Hardware, unusable []error, err error) {
	for _, pattern := range patterns {
		more, hardware, faults, err := machines(pattern)
		if err != nil {
			return nil, nil, nil, err
		}
		unusable = append(unusable, faults...)
		for i, name := range more {
			if !slices.Contains(names, name) {
				names, list = append(names, name), append(list, hardware[i])
			}
		}
	}
	if len(list) == 0 {
		return nil, nil, nil, errors.Join(unusable...)
	}
	return names, list, unusable, nil
}

// machines are the hardware that one pattern stands for: what Hardware takes, with *, ? and [...] in any of its parts.
// A pattern is one of files where it has a folder or an ending, else of built-in names: of machines in the first part,
// of cards after a +. Names are as Hardware would take them.
func machines(pattern string) (names []string, list []profile.Hardware, unusable []error, err error) {
	parts := strings.Split(pattern, "+")
	if _, err := os.Stat(pattern); err == nil { // a file's own name may have a +
		parts = []string{pattern}
	}
	joined := [][]string{nil}
	for i, part := range parts {
		found, err := matching(part, i > 0)
		if err != nil {
			return nil, nil, nil, err
		}
		var longer [][]string
		for _, one := range joined {
			for _, f := range found {
				longer = append(longer, append(slices.Clone(one), f))
			}
		}
		if joined = longer; len(joined) > mostMachines {
			return nil, nil, nil, fmt.Errorf("%s: more than %d machines", pattern, mostMachines)
		}
	}
	for _, one := range joined {
		h, err := combined(one)
		name := strings.Join(one, "+")
		if err == nil && h.Memory == nil {
			err = fmt.Errorf("%s says nothing of host memory: join it to a machine, as in i5-10210u+%s", name, name)
		}
		if err != nil && !onDisk(one) {
			return nil, nil, nil, err
		}
		if err != nil {
			unusable = append(unusable, err)
			continue
		}
		names, list = append(names, name), append(list, h)
	}
	return names, list, unusable, nil
}

// onDisk is whether a machine is described by files that are there: a name that is mistyped is nobody's fault but the
// caller's.
func onDisk(parts []string) bool {
	_, err := os.Lstat(parts[0]) // a link that leads nowhere is there
	return err == nil
}

// mostMachines bounds what a slip in a pattern costs.
const mostMachines = 100_000

// matching are the parts of a name that a pattern stands for; what has no wildcard stands for itself.
func matching(part string, card bool) ([]string, error) {
	if !strings.ContainsAny(part, "*?[") {
		return []string{part}, nil
	}
	var found []string
	var err error
	if isFile(part) {
		found, err = filepath.Glob(part)
	} else {
		found, err = builtIn(part, card)
	}
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("nothing matches it; vlmem profiles lists the built-in names, and files end in .yaml or .json")
	}
	if err != nil {
		return nil, fmt.Errorf("hardware %q: %w", part, err)
	}
	return found, nil
}

// builtIn are the built-in machines, or the cards, that a pattern matches.
func builtIn(pattern string, card bool) (found []string, err error) {
	for _, name := range profiles.HardwareNames() {
		ok, err := path.Match(strings.ToLower(pattern), name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		h, err := profiles.Hardware(name)
		if err != nil {
			return nil, err
		}
		if (h.Memory == nil) == card {
			found = append(found, name)
		}
	}
	return found, nil
}
