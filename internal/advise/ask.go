package advise

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
)

// Malloc is the target that is no engine: the C library's heap of any process on the CPU.
const Malloc = "malloc"

// Targets are what files can be written for.
func Targets() []string { return append(engine.Names((*engine.Engine).Writes), Malloc) }

// Ask is which of its answers advise is asked for: a configuration, a target's files, or a comparison.
type Ask struct {
	Target  string // "" for a configuration
	Compare bool
	Grow    string // context, image or concurrency, "" for none
	Want    Want
	Served  engine.Served
}

// clash is flags that have no effect on an answer, and why.
type clash struct {
	with  string // the answer
	where bool
	flags string
	why   string
}

func (a Ask) clashes(typed func(flag string) bool) []clash {
	allocators := engine.Names((*engine.Engine).Allocates)
	e, err := engine.Lookup("target", a.Target, (*engine.Engine).Writes)
	foreign := a.Target != "" && (err != nil || !e.Builds())
	allocator, files := slices.Contains(allocators, a.Target), a.Target != ""
	elsewhere := "it goes with --for " + strings.Join(allocators, " or ")
	heap := allocator || a.Target == Malloc
	answer := "--for " + a.Target
	servers := engine.Names(func(e *engine.Engine) bool { return e.Cards })
	server := slices.Contains(servers, a.Target)
	return []clash{
		{"", !allocator, "trace torch device device-memory", "is of PYTORCH_ALLOC_CONF: " + elsewhere},
		{answer, foreign, "build", "is of llama.cpp, whose builds reserve differently"},
		{"", !server, strings.Join(engine.ServedFlags, " "), "is of a server over several cards: it goes with --for " +
			strings.Join(servers, " or ")},
		{answer, files, "explain", "is the long form of the configuration; an engine's files carry their reasons"},
		{answer, files, "compare", "lists models"},
		{answer, files, "prefer min-tokens-per-second max-first-token",
			"chooses a precision for the configuration: name it with --precision"},
		{answer, files, "report", "is the page of a configuration"},
		{answer, files, "seeds", "counts the samples that the configuration's pools are sized from"},
		{answer, files && !heap, "mix", "is what samples are drawn from, and an engine's files are written for " +
			"the largest request"},
		{answer, heap, "grow precision assume-idle", "is of what fits a machine, and a heap's settings are chosen by replay"},
		{"--trace", typed("trace"), "mix context image concurrency request",
			"is of the model's own requests, and the recording takes their place"},
		{"--compare", a.Compare, "report explain", "is of the configuration"},
		{"--compare", a.Compare, "grow", "grows one model's limit, and models are listed as they fit"},
		{"--compare --model", a.Compare && typed("model"), "prefer", "orders models, and one is named"},
		{"--compare", a.Compare, "seeds mix", "is of samples, and models are compared without"},
	}
}

// Check refuses flags that have no effect on what is asked for; typed says which ones a person gave.
func (a Ask) Check(typed func(flag string) bool) error {
	if a.Target != "" && !slices.Contains(Targets(), a.Target) {
		return fmt.Errorf("unknown --for %q: want one of %s", a.Target, strings.Join(Targets(), ", "))
	}
	for _, c := range a.clashes(typed) {
		for flag := range strings.FieldsSeq(c.flags) {
			switch {
			case !c.where || !typed(flag):
			case c.with == "":
				return fmt.Errorf("--%s %s", flag, c.why)
			default:
				return fmt.Errorf("--%s %s: it does not go with %s", flag, c.why, c.with)
			}
		}
	}
	if e, err := engine.Lookup("", a.Target, deployable); err == nil {
		if err := a.Served.Check(e, typed); err != nil {
			return err
		}
	}
	if a.Grow != "" && !slices.Contains([]string{"context", "image", "concurrency"}, a.Grow) {
		return fmt.Errorf("unknown --grow %q: want context, image or concurrency", a.Grow)
	}
	return a.Want.Check()
}

// WithoutRates refuses rates, of these files, where a target's files are written, which hold no predicted ones.
func (a Ask) WithoutRates(files []string) error {
	if a.Target == "" || len(files) == 0 {
		return nil
	}
	return fmt.Errorf("--observed %s: rates move predicted ones, and --for %s writes none", files[0], a.Target)
}
