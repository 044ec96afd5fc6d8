package advise

import (
	"cmp"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/speed"
)

// Room is what a precision leaves for context beside images of a size, and how fast it writes once that is full.
type Room struct {
	Image   string       `json:"image"`
	Context int          `json:"context_tokens"` // 0: not even the context asked for fits beside such an image
	Full    *speed.Range `json:"decode_full_tokens_per_s,omitempty"`
}

// usualImages are sizes that people send: a camera's preview, and screens.
var usualImages = [][2]int{{640, 480}, {1280, 720}, {1920, 1080}, {3840, 2160}}

// imagesAround are the size asked for and its neighbours among the usual ones, three in all, by pixels.
func imagesAround(width, height int) [][2]int {
	pixels := func(a, b [2]int) int { return cmp.Compare(a[0]*a[1], b[0]*b[1]) }
	asked := [2]int{width, height}
	list := slices.DeleteFunc(slices.Clone(usualImages), func(i [2]int) bool { return pixels(i, asked) == 0 })
	list = append(list, asked)
	slices.SortFunc(list, pixels)
	from := min(max(slices.Index(list, asked)-1, 0), len(list)-3)
	return list[from : from+3]
}

// rooms are what the engine's precision leaves beside each size of image; what lies on the card is settled anew for
// each.
func (in *Inputs) rooms(precision string) (list []Room) {
	e, err := engine.Lookup("engine", in.Engine, deployable)
	if err != nil {
		return nil
	}
	for _, image := range imagesAround(in.Limits.ImageWidth, in.Limits.ImageHeight) {
		try := *in
		try.Precision, try.Want = precision, Want{}
		try.Limits.ImageWidth, try.Limits.ImageHeight = image[0], image[1]
		r := Room{Image: try.Limits.Image()}
		if _, d, err := try.serve(); err == nil && d.Memory.Quant == precision {
			r.Context = try.mostContext(e, &d)
			try.Limits.ContextTokens = r.Context
			if f := try.forecastServed(&d); f != nil {
				r.Full = &f.DecodeFull
			}
		}
		list = append(list, r)
	}
	return list
}
