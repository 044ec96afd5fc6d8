package shard

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/workload"
)

// uncut are flags of advise that a shard of its seeds would pass over.
var uncut = []string{"for", "compare", "explain", "trace", "torch", "device-memory", "observed", "learned"}

// Seeds is the share that spec names of a configuration's seeds; flags are all that advise was given.
func Seeds(spec string, flags *pflag.FlagSet, lookup func(string) (string, bool)) (*Share, error) {
	for _, flag := range uncut {
		if flags.Changed(flag) {
			return nil, fmt.Errorf("--shard splits the seeds of the configuration: it does not go with --%s", flag)
		}
	}
	switch f := flags.Lookup("format"); {
	case !flags.Changed("hardware"):
		return nil, errors.New("--shard needs --hardware, or each part would be of the node that it runs on: " +
			"vlmem probe --save FILE keeps the machine in a file")
	case f.Changed && f.Value.String() != "json":
		return nil, fmt.Errorf("--shard writes JSON for vlmem merge, which takes --format %s", f.Value)
	}
	p, err := NewShare(spec, nil, lookup)
	if err != nil {
		return nil, fmt.Errorf("--shard %w", err)
	}
	p.Work.Advise = []string{}
	flags.Visit(func(f *pflag.Flag) {
		if !slices.Contains([]string{"shard", "output", "format"}, f.Name) {
			p.Work.Advise = append(p.Work.Advise, f.Name+"="+f.Value.String())
		}
	})
	return p, nil
}

// Replay settles the limits and replays the seeds that fall to the share. Where the model does not fit, the error is
// advise's.
func (p *Share) Replay(ctx context.Context, in *advise.Inputs, mix *profile.Mix, grow string, seeds int,
	progress func(done, of int)) error {
	in.Largest = advise.LargestRequest(in, workload.Flash)
	if err := in.Settle(grow); err != nil {
		return err
	}
	if !in.Fits() {
		_, err := advise.Make(*in)
		return err
	}
	sum, err := sumOf(in, mix)
	if err != nil {
		return err
	}
	p.Work.Settings = []string{sum}
	for seed := range seeds {
		mine := p.Holds(seed)
		p.Work.Units = append(p.Work.Units, fmt.Sprintf("seed %d", seed))
		if !mine || ctx.Err() != nil {
			continue
		}
		seen, err := in.Draw(mix, seed, 1, advise.Candidates(), func(int, int) {})
		if err != nil {
			return err
		}
		p.Outcomes = append(p.Outcomes, Outcome{Unit: seed, Seen: seen[0]})
		progress(seed+1, seeds)
	}
	return nil
}

// sumOf tells machine, model and mix from others of their names.
func sumOf(in *advise.Inputs, mix *profile.Mix) (string, error) {
	data, err := json.Marshal([]any{in.Hardware, in.Model, mix})
	if err != nil {
		return "", fmt.Errorf("naming what the shards are of: %w", err)
	}
	return fmt.Sprintf("hardware, model and mix=%x", sha256.Sum256(data)), nil
}

// Into gives the flags of the configuration to a command that finishes it.
func (m *Merged) Into(flags *pflag.FlagSet) error {
	for _, flag := range m.Work.Advise {
		name, value, _ := strings.Cut(flag, "=")
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("merging: --%s %s of the shards: %w", name, value, err)
		}
	}
	return nil
}

// Of is what the samples showed, where they are of this machine, model and mix.
func (m *Merged) Of(in *advise.Inputs, mix *profile.Mix) ([]advise.Seen, error) {
	sum, err := sumOf(in, mix)
	if err == nil && !slices.Equal(m.Work.Settings, []string{sum}) {
		err = fmt.Errorf("merging: the hardware, the model or the mix is not that of the shards: %s",
			strings.Join(m.Work.Advise, ", "))
	}
	return m.Seen, err
}

// MergeFiles is Merge of the files of all shards.
func MergeFiles(paths []string) (Merged, error) {
	var parts []Part
	for _, path := range paths {
		data, err := file.Read(path, Limit)
		if err != nil {
			return Merged{}, fmt.Errorf("reading a shard: %w", err)
		}
		f, err := Read(path, data)
		if err != nil {
			return Merged{}, err
		}
		parts = append(parts, Part{path, f})
	}
	return Merge(parts)
}
