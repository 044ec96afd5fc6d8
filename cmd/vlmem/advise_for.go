package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/profiles"
)

// mallocTarget is the target that is no engine: the C library's heap of any process on the CPU.
const mallocTarget = "malloc"

func adviseTargets() []string { return append(engine.Names((*engine.Engine).Writes), mallocTarget) }

// bundle is the files for one engine with what was found on the way.
type bundle struct {
	Engine   string               `json:"engine"`
	Version  string               `json:"version"`
	Files    []bundleFile         `json:"files"`
	Use      []string             `json:"use"`
	Notes    []string             `json:"notes,omitempty"`
	Headline []string             `json:"headline"`
	Estimate *engine.Memory       `json:"estimate,omitempty"`
	Torch    *advise.TorchChoice  `json:"torch,omitempty"`
	Malloc   *advise.MallocChoice `json:"malloc,omitempty"`
}

type bundleFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// engineOf is the engine that files are written for, nil where the target is none.
func (o *adviseOptions) engineOf() *engine.Engine {
	e, err := engine.Lookup("target", o.target, (*engine.Engine).Writes)
	if err != nil {
		return nil
	}
	return e
}

// replayed are the targets whose settings are chosen by replay: they have no memory of their own to estimate.
func replayed(e *engine.Engine) bool { return e.Writes() && !e.Estimates() }

// runAdviseFor writes the files that one engine reads.
func runAdviseFor(env *environment, ctx context.Context, o *adviseOptions, in advise.Inputs) error {
	into, err := o.openBundle(env)
	if err != nil {
		return err
	}
	defer into.discard()
	var b bundle
	switch e := o.engineOf(); {
	case e == nil:
		b, err = o.malloc(env, ctx, &in)
	case !e.Estimates():
		b, err = o.pytorch(env, e, &in)
	default:
		b, err = o.engine(env, &in)
	}
	if err != nil {
		return unable(err)
	}
	b.comment()
	if o.out.format == "json" {
		if err := report.Document(into.first(), "json", b); err != nil {
			return err
		}
		return into.commit()
	}
	for i, f := range b.Files {
		w, err := into.file(i, f.Name)
		if err != nil {
			return err
		}
		fmt.Fprint(w, f.Content)
	}
	if left := len(b.Files) - 1; left > 0 && into.folder == "" {
		env.warn("files for %s not shown: %d; -o FOLDER/ writes all", o.target, left)
	}
	if !commentable(b.Files[0].Name) {
		for _, line := range slices.Concat(b.Headline[:1], b.Notes) {
			env.warn("%s", line)
		}
	}
	return into.commit()
}

// unable gives what an engine or a machine cannot do its exit code.
func unable(err error) error {
	var refusal *engine.Refusal
	var short *advise.Shortfall
	if errors.As(err, &refusal) || errors.As(err, &short) {
		return verdict.Unable.Of(err)
	}
	return err
}

// engine settles an engine whose memory internal/engine estimates.
func (o *adviseOptions) engine(env *environment, in *advise.Inputs) (bundle, error) {
	d, err := advise.Deploy(o.target, *in)
	var refusal *engine.Refusal
	if errors.As(err, &refusal) {
		anywhere := engine.Anywhere().Name
		if alternative, e := advise.Deploy(anywhere, *in); e == nil {
			refusal.Alternative += "; with " + anywhere + " " + alternative.Headline[0]
		}
	}
	var short *advise.Shortfall
	if errors.As(err, &short) {
		short.WouldFit = append(short.WouldFit, smallerDeployments(o.target, *in)...)
	}
	if err != nil {
		return bundle{}, err
	}
	if o.grow != "" {
		if d, err = o.larger(in, d); err != nil {
			return bundle{}, err
		}
	}
	for _, warning := range d.Memory.Warnings {
		env.warn("%s", warning)
	}
	b, err := written(o.target, d.Settings)
	b.Headline, b.Estimate = d.Headline, d.Memory
	return b, err
}

// smallerDeployments lists the built-in models below the one asked for that the engine would run with all else the same.
func smallerDeployments(target string, in advise.Inputs) (fit []string) {
	for _, name := range profiles.ModelNames() {
		model, err := profiles.Model(name)
		if err != nil || model.Parameters().Total() >= in.Model.Parameters().Total() {
			continue
		}
		in.Model = model
		if _, err := advise.Deploy(target, in); err == nil {
			fit = append(fit, "--model "+name)
		}
	}
	return fit
}

// larger grows what --grow names as far as the weights and the layers on the card stay as they are.
func (o *adviseOptions) larger(in *advise.Inputs, d advise.Deployment) (advise.Deployment, error) {
	fixed := *in
	if fixed.Precision = d.Options.Quant; fixed.Precision == "" {
		fixed.Precision = d.Memory.Quant
	}
	fixed.Given = []string{"context", "image", "concurrency", "precision"}
	try := func(l advise.Limits) (advise.Deployment, bool) {
		fixed.Limits = l
		got, err := advise.Deploy(o.target, fixed)
		same := got.Settings.GPULayers == d.Settings.GPULayers && got.Settings.Host == d.Settings.Host
		return got, err == nil && same
	}
	limits, err := advise.Grow(o.grow, d.Limits, &in.Model, func(l advise.Limits) bool { _, ok := try(l); return ok })
	if err != nil {
		return d, err
	}
	if got, ok := try(limits); ok {
		got.Headline = slices.Insert(got.Headline, 1, fmt.Sprintf("%s grown as far as the rest allows", o.grow))
		return got, nil
	}
	return d, nil
}

// written spells settings for a target.
func written(target string, s engine.Settings) (bundle, error) {
	w, err := engine.Write(target, s)
	if err != nil {
		return bundle{}, err
	}
	b := bundle{Engine: w.Engine, Version: w.Version, Use: w.Use, Notes: w.Notes}
	for _, f := range w.Files {
		b.Files = append(b.Files, bundleFile(f))
	}
	return b, nil
}

// torchRuns is how many runs PyTorch's settings are chosen from where there is no recording.
const torchRuns = 6

// pytorch chooses PYTORCH_ALLOC_CONF by replay: of the user's recording, or of the model's own requests.
func (o *adviseOptions) pytorch(env *environment, e *engine.Engine, in *advise.Inputs) (bundle, error) {
	if g := in.Hardware.GPUs; len(g) > 0 {
		if err := e.Refuse(&g[0]); err != nil {
			return bundle{}, err
		}
	}
	options, err := o.torchOptions()
	if err != nil {
		return bundle{}, err
	}
	traces, err := o.torchTraces(env, in, &options)
	if err != nil {
		return bundle{}, err
	}
	bar := env.progress("replaying PyTorch's settings")
	defer bar.close()
	options.Progress = bar.set
	choice, err := advise.TuneTorch(traces, options)
	if err != nil {
		return bundle{}, err
	}
	s := engine.Settings{Model: &in.Model, AllocConf: choice.Best.Conf}
	if len(in.Hardware.GPUs) > 0 {
		s.GPU = &in.Hardware.GPUs[0]
	}
	if !choice.Helps() {
		s.AllocConf = "backend:native" // the default, said aloud: an empty value would be no advice
	}
	b, err := written(e.Name, s)
	b.Torch, b.Headline = &choice, torchHeadline(&choice)
	return b, err
}

// commentable says whether a file's grammar has comments of whole lines.
func commentable(name string) bool { return filepath.Ext(name) != ".json" }

// comment writes what was found and what to know at the head of each file that may hold comments.
func (b *bundle) comment() {
	for i := range b.Files {
		f := &b.Files[i]
		if !commentable(f.Name) {
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

// destination is where a bundle goes: its first file to stdout or -o, or all of them into a folder.
type destination struct {
	env    *environment
	out    output
	folder string
	made   bool // the folder was not there before
	files  []*pending
}

func (o *adviseOptions) openBundle(env *environment) (*destination, error) {
	if o.out.format != "yaml" && o.out.format != "json" {
		return nil, fmt.Errorf("unknown --format %q with --for: want yaml, for the engine's own files, or json", o.out.format)
	}
	d := &destination{env: env, out: o.out}
	info, err := os.Stat(o.out.path)
	if o.out.path != "" && (strings.HasSuffix(o.out.path, "/") || err == nil && info.IsDir()) && o.out.format != "json" {
		if d.folder, d.made = o.out.path, err != nil; d.made {
			if err := os.Mkdir(d.folder, 0o755); err != nil {
				return nil, fmt.Errorf("writing -o %s: no such folder, and it cannot be made: %w", d.folder, err)
			}
		}
		return d, nil
	}
	w, err := o.out.open(env)
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, w)
	return d, nil
}

// first is where the one result goes.
func (d *destination) first() *pending { return d.files[0] }

// file is where file i of the bundle goes; those that have no place are dropped.
func (d *destination) file(i int, name string) (*pending, error) {
	if d.folder == "" {
		if i == 0 {
			return d.files[0], nil
		}
		return &pending{}, nil
	}
	w, err := (&output{format: d.out.format, formats: d.out.formats, path: filepath.Join(d.folder, name)}).open(d.env)
	if err == nil {
		d.files = append(d.files, w)
	}
	return w, err
}

// commit puts all files in their places, or none.
func (d *destination) commit() error {
	d.made = false
	return commitAll(d.files...)
}

func (d *destination) discard() {
	for _, f := range d.files {
		f.discard()
	}
	if d.made {
		_ = os.Remove(d.folder) // it is empty
	}
}
