package estimate

import (
	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
)

// Stand judges an estimate by the memory of the machine that the request names, and says nothing where it names none.
func (o *Request) Stand(model profile.Model, mem *engine.Memory) (s advise.Standing, err error) {
	if o.Hardware == "" {
		return s, nil
	}
	h, err := catalog.Hardware(o.Hardware)
	if err != nil {
		return s, err
	}
	if o.GPU != nil && len(h.GPUs) == 0 { // of another make than CUDA's
		h.GPUs = h.EngineCards()
	}
	if len(o.GPUs) > 0 {
		h.GPUs = o.GPUs
	}
	in := advise.Inputs{Hardware: h, Model: model}
	return in.Stand(o.Engine, mem, o.Options)
}
