package predict

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/child"
)

// Start is what a program is started with.
type Start struct {
	Set     []string // NAME=value
	Binding child.Binding
	Kept    []string // what the user's own environment says otherwise than the configuration, and stays
}

// StartOf gathers what a configuration chose and the lines of another file, which come after it. Both files may be "".
// What own, the user's environment, sets already stays as it is; lines are the user's own word, and win.
func StartOf(config, lines string, own func(string) (string, bool)) (s Start, err error) {
	if config != "" {
		a, err := advise.ReadFile(config)
		if err != nil {
			return s, err
		}
		if err := s.configured(&a, own); err != nil {
			return s, fmt.Errorf("%s: environment.%w", config, err)
		}
	}
	if lines == "" {
		return s, nil
	}
	more, err := child.ReadVariables(lines)
	if err != nil {
		return s, fmt.Errorf("reading --env: %w", err)
	}
	s.Set = append(s.Set, more...)
	return s, nil
}

// configured takes what a configuration says of a program's start.
func (s *Start) configured(a *advise.Advice, own func(string) (string, bool)) (err error) {
	e := cmp.Or(a.Environment, &advise.Environment{})
	threads := 0
	if e.Threads != nil {
		if threads = e.Threads.Value; threads <= 0 {
			return fmt.Errorf("threads %d: want above zero", threads)
		}
	} else if c := a.Tiles.CPU; c != nil {
		threads = c.Threads.Value
	}
	if threads > 0 {
		s.set(own, fmt.Sprint(threads), "OMP_NUM_THREADS")
	}
	if e.AllocConf != nil {
		if strings.ContainsAny(e.AllocConf.Value, "\n\x00") || e.AllocConf.Value == "" {
			return fmt.Errorf("pytorch_alloc_conf %q: want one line such as expandable_segments:True", e.AllocConf.Value)
		}
		s.set(own, e.AllocConf.Value, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
	}
	var cpus, policy string
	if e.CPUs != nil {
		cpus = e.CPUs.Value
	}
	if e.Memory != nil {
		policy = e.Memory.Value
	}
	s.Binding, err = child.ParseBinding(cpus, policy)
	return err
}

// set sets a variable under each of its names, unless the user's environment has one of them.
func (s *Start) set(own func(string) (string, bool), value string, names ...string) {
	for _, name := range names {
		if mine, ok := own(name); ok {
			if mine != value {
				s.Kept = append(s.Kept, fmt.Sprintf("%s=%s is set in your environment and stays; the configuration says %s",
					name, mine, value))
			}
			return
		}
	}
	for _, name := range names {
		s.Set = append(s.Set, name+"="+value)
	}
}
