package advise

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
)

// Bundle is the files for one target with what was found on the way.
type Bundle struct {
	engine.Bundle
	Headline []string       `json:"headline"`
	Estimate *engine.Memory `json:"estimate,omitempty"`
	Torch    *TorchChoice   `json:"torch,omitempty"`
	Malloc   *MallocChoice  `json:"malloc,omitempty"`
}

// WriteFor settles an engine whose memory package engine estimates, with what grow names as large as the rest allows,
// and spells its files. What does not fit says which of the models would.
func WriteFor(target, grow string, in Inputs, models []profile.Model) (Bundle, error) {
	if in.Known == nil { // the other ways that are tried ask for the same estimates again
		in.Known = new(Estimates)
	}
	d, err := Deploy(target, in)
	var refusal *engine.Refusal
	if errors.As(err, &refusal) {
		anywhere := engine.Anywhere().Name
		if alternative, e := Deploy(anywhere, in); e == nil {
			refusal.Alternative += "; with " + anywhere + " " + alternative.Headline[0]
		}
	}
	var short *Shortfall
	if errors.As(err, &short) {
		short.Name(in.smallerOn(target, models))
	}
	if err != nil {
		return Bundle{}, err
	}
	if grow != "" {
		if d, err = in.larger(target, grow, d); err != nil {
			return Bundle{}, err
		}
	}
	w, err := engine.Write(target, d.Settings)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Bundle: *w, Headline: d.Headline, Estimate: d.Memory}, nil
}

// larger grows what grow names as far as the weights and the layers on the card stay as they are.
func (in *Inputs) larger(target, grow string, d Deployment) (Deployment, error) {
	fixed := *in
	if fixed.Precision = d.Options.Quant; fixed.Precision == "" {
		fixed.Precision = d.Memory.Quant
	}
	fixed.Given = []string{"context", "image", "concurrency", "precision"}
	try := func(l Limits) (Deployment, bool) {
		fixed.Limits = l
		got, err := Deploy(target, fixed)
		same := got.Settings.GPULayers == d.Settings.GPULayers && got.Settings.Host == d.Settings.Host
		return got, err == nil && same
	}
	limits, err := Grow(grow, d.Limits, &in.Model, func(l Limits) bool { _, ok := try(l); return ok })
	if err != nil {
		return d, err
	}
	if got, ok := try(limits); ok {
		got.Headline = slices.Insert(got.Headline, 1, fmt.Sprintf("%s grown as far as the rest allows", grow))
		return got, nil
	}
	return d, nil
}

// WriteTorch spells the settings of PyTorch that were chosen by replay.
func WriteTorch(e *engine.Engine, in *Inputs, choice TorchChoice) (Bundle, error) {
	s := engine.Settings{Model: &in.Model, AllocConf: choice.Best.Conf}
	s.Threads, s.ThreadsWhy = in.Threads(false)
	if len(in.Hardware.GPUs) > 0 {
		s.GPU = &in.Hardware.GPUs[0]
	}
	if !choice.Helps() {
		s.AllocConf = "backend:native" // the default, said aloud: an empty value would be no advice
	}
	w, err := engine.Write(e.Name, s)
	if err != nil {
		return Bundle{}, err
	}
	return Bundle{Bundle: *w, Torch: &choice, Headline: choice.Headline()}, nil
}

// WriteMalloc spells the heap that was chosen; tried are the heaps that could be preloaded.
func WriteMalloc(choice MallocChoice, tried map[string]string, memory *profile.Memory) Bundle {
	text := "# written by vlmem for a process that infers on the CPU\n"
	for _, variable := range choice.Best.Env {
		text += variable + "\n"
	}
	b := Bundle{Malloc: &choice, Headline: choice.Headline(), Bundle: engine.Bundle{Engine: Malloc,
		Version: "the process's environment", Files: []engine.File{{Name: "malloc.env", Content: text}},
		Use: []string{"env $(grep -v '^#' malloc.env) python …"}}}
	for _, name := range []string{"tcmalloc", "jemalloc", "mimalloc"} {
		if tried[name] == "" {
			b.Notes = append(b.Notes, name+" is not installed and was not tried")
		}
	}
	if memory != nil && memory.TransparentHugePage == "never" {
		b.Notes = append(b.Notes, "transparent huge pages are off (/sys/kernel/mm/transparent_hugepage/enabled): settings "+
			"that ask for them had no effect")
	}
	return b
}

// Commentable says whether a file's grammar has comments of whole lines.
func Commentable(name string) bool { return filepath.Ext(name) != ".json" }

// Comment writes what was found and what to know at the head of each file that may hold comments.
func (b *Bundle) Comment() {
	for i := range b.Files {
		f := &b.Files[i]
		if !Commentable(f.Name) {
			continue
		}
		mark := "# "
		if filepath.Ext(f.Name) == ".ini" {
			mark = "; "
		}
		first, rest, _ := strings.Cut(f.Content, "\n")
		lines := []string{first}
		for _, line := range b.Headline {
			lines = append(lines, mark+line)
		}
		for _, line := range b.Use {
			lines = append(lines, mark+"use: "+line)
		}
		for _, line := range b.Notes {
			lines = append(lines, mark+"note: "+line)
		}
		f.Content = strings.Join(append(lines, rest), "\n")
	}
}
