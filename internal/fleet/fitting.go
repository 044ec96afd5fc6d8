package fleet

import (
	"context"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
)

// Usual is what a machine is asked to hold where nobody says: a context and an image that a person would begin with.
var Usual = advise.Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}

// Fitting is what becomes of each model on one machine within Usual, or less where that does not fit, were nobody else
// on it: what stays true of a node while programs come and go.
func Fitting(ctx context.Context, h profile.Hardware, models []profile.Model) ([]Answer, error) {
	if len(models) == 0 {
		return nil, nil
	}
	plan, err := Make(ctx, Named([]string{h.Name}, []profile.Hardware{h}), models,
		Asked{Inputs: advise.Inputs{Limits: Usual, AssumeIdle: true}})
	if err != nil {
		return nil, err
	}
	return plan.Kinds[0].Models, nil
}
