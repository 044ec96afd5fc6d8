package bench

import (
	"context"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/replay/touched"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

const (
	heapRepeats  = 3
	heapPatience = 45 * time.Second // no further repeat begins after it
)

// Heaps chooses the heap of a process that infers on the CPU, by running the model's requests through every heap that
// is installed.
func Heaps(ctx context.Context, in *advise.Inputs, mix *profile.Mix, progress func(done, of int)) (advise.Bundle,
	error) {
	in.Hardware.GPUs = nil
	t, err := in.Sequence(mix, 0, workload.Dynamic)
	if err != nil {
		return advise.Bundle{}, err
	}
	p, err := replay.Compile(t)
	if err != nil {
		return advise.Bundle{}, err
	}
	if m := in.Hardware.Memory; m != nil && m.AvailableBytes != nil && units.Bytes(p.LowerBound)*3/2 > *m.AvailableBytes {
		return advise.Bundle{}, verdict.Unable.Errorf("--for malloc would write %s and %s is free: lower --image or "+
			"--context",
			units.Bytes(p.LowerBound), *m.AvailableBytes)
	}
	libraries := libc.Installed()
	settings := advise.MallocSettings(libraries)
	var all []touched.Contestant
	for _, s := range settings {
		all = append(all, touched.Contestant{Name: s.Name, Allocator: "malloc", Variables: s.Env})
	}
	runs, err := touched.Turns{Repeats: heapRepeats, Patience: heapPatience, Progress: progress}.Take(ctx, &p, all)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return advise.Bundle{}, err
	}
	choice, err := advise.ChooseMalloc(advise.MallocTrials(&p, settings, runs), p.LowerBound)
	if err != nil {
		return advise.Bundle{}, err
	}
	return advise.WriteMalloc(choice, libraries, in.Hardware.Memory), nil
}
