package main

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
)

// torchRuns is how many runs PyTorch's settings are chosen from where there is no recording.
const torchRuns = 6

// pytorch chooses PYTORCH_ALLOC_CONF by replay: of the user's recording, or of the model's own requests.
func (o *adviseOptions) pytorch(env *environment, e *engine.Engine, in *advise.Inputs,
	mix *profile.Mix) (advise.Bundle, error) {
	if g := in.Hardware.GPUs; len(g) > 0 {
		if err := e.Refuse(&g[0]); err != nil {
			return advise.Bundle{}, err
		}
	}
	options, err := o.torchOptions()
	if err != nil {
		return advise.Bundle{}, err
	}
	traces, err := o.torchTraces(env, in, mix, &options)
	if err != nil {
		return advise.Bundle{}, err
	}
	bar := env.progress("replaying PyTorch's settings")
	defer bar.close()
	options.Progress = bar.set
	choice, err := advise.TuneTorch(traces, options)
	if err != nil {
		return advise.Bundle{}, err
	}
	return advise.WriteTorch(e, in, choice)
}

// torchOptions reads the flags that are of PyTorch alone.
func (o *adviseOptions) torchOptions() (out advise.TorchOptions, err error) {
	if out.Release, err = release(o.torch); err != nil {
		return out, err
	}
	out.Memory, err = size("device-memory", o.memory)
	return out, err
}

// torchTraces is the cards of the recordings, or the model's own requests. It notes in to what the recordings say of
// their settings and their release.
func (o *adviseOptions) torchTraces(env *environment, in *advise.Inputs, mix *profile.Mix,
	to *advise.TorchOptions) ([]*trace.Trace, error) {
	var list []*trace.Trace
	for _, path := range o.traces {
		traces, err := advise.TorchCards(path, to)
		if err != nil {
			return nil, err
		}
		for _, t := range traces {
			for _, line := range t.Warnings {
				env.warn("%s", line)
			}
		}
		if len(o.traces) == 1 && len(traces) == 1 && traces[0].Name == "" {
			traces[0].Name = path
		}
		list = append(list, traces...)
	}
	if len(o.traces) > 0 {
		return list, nil
	}
	for seed := range uint64(torchRuns) {
		t, err := in.Sequence(mix, seed, workload.Dynamic)
		if err != nil {
			return nil, err
		}
		t.Name = fmt.Sprintf("seed %d", seed)
		list = append(list, t)
	}
	return list, nil
}
