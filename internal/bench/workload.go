package bench

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
)

// Workloads are those of the files, of all their cards or of those of these numbers, or, without any, one request of
// each model with each image.
func Workloads(files []string, devices []int, models, images []string, decode int, asked Asked) ([]*trace.Trace,
	error) {
	if len(files) == 0 && len(devices) > 0 {
		return nil, errors.New("--device chooses a card of a recording: it goes with --trace")
	}
	var all []*trace.Trace
	for _, path := range files {
		list, err := trace.OpenCards(path, devices)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if len(files) > 0 {
		return all, nil
	}
	for _, name := range models {
		model, err := catalog.Model(name)
		if err != nil {
			return nil, err
		}
		if asked.File != "" && !asked.Typed("image") {
			images = []string{"none"} // the file's
		}
		for _, image := range images {
			t, err := request(model, image, decode, asked)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// Idle refuses a flag that somebody typed and that has no effect on these files, or on any replay.
func Idle(typed func(flag string) bool, files []string) error {
	if typed("hardware") {
		return errors.New("--hardware has no effect on a replay: vlmem bench streams and bench tiles take it")
	}
	for _, flag := range []string{"model", "image", "decode", "request"} {
		if len(files) > 0 && typed(flag) {
			return fmt.Errorf("--%s is of a model's request and has no effect beside --trace: drop one", flag)
		}
	}
	return nil
}

// Beside says what no figure of the models' requests holds: their weights. Of recorded files nothing is known.
func Beside(files, models []string) (notes []string) {
	for _, name := range models {
		if model, err := catalog.Model(name); err == nil && len(files) == 0 {
			notes = append(notes, fmt.Sprintf("a request's memory alone: %s's weights, %s in bf16, lie beside these figures",
				model.Name, model.WeightBytes(profile.BF16)))
		}
	}
	return notes
}

// promptTokens is a short question beside the image.
const promptTokens = 30

// Asked is a request file, and which flags a person typed, which count before it.
type Asked struct {
	File  string
	Typed func(flag string) bool
}

func request(model profile.Model, image string, decode int, asked Asked) (*trace.Trace, error) {
	o := workload.Options{PromptTokens: promptTokens, DecodeTokens: decode}
	if err := catalog.Asked(asked.File, asked.Typed, o.Take); err != nil {
		return nil, err
	}
	if asked.File == "" || asked.Typed("image") {
		var err error
		if o.Width, o.Height, err = profile.ParseImage(image); err != nil {
			return nil, err
		}
	}
	return workload.Request(model, o)
}
