package advise

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// laptopWith is the laptop, a card beside it, and a model.
func laptopWith(t *testing.T, name string) (laptop, card profile.Hardware, model profile.Model) {
	t.Helper()
	var errs [3]error
	laptop, errs[0] = profiles.Hardware("i5-10210u")
	card, errs[1] = profiles.Hardware("gtx-1080")
	model, errs[2] = profiles.Model(name)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return laptop, card, model
}

// TestRoomsAreThoseOfTheChoices: beside the image asked for, the room is the choice's own; a larger image never leaves
// more where all layers stay on the card.
func TestRoomsAreThoseOfTheChoices(t *testing.T) {
	laptop, card, model := laptopWith(t, "qwen3-vl-4b")
	for _, image := range [][2]int{{640, 480}, {1280, 720}, {3840, 2160}} {
		in := Inputs{Hardware: profile.Combine(laptop, card), Model: model, Engine: "llama-server", Limits: Limits{
			ContextTokens: 9000, ImageWidth: image[0], ImageHeight: image[1], Concurrency: 1}}
		choices := in.servedChoices()
		if len(choices) < 3 {
			t.Fatalf("%d choices", len(choices))
		}
		for _, c := range choices {
			rooms := in.rooms(c.Precision)
			i := slices.IndexFunc(rooms, func(r Room) bool { return r.Image == in.Limits.Image() })
			if len(rooms) != 3 || i < 0 || rooms[i].Context != c.Context || rooms[i].Full == nil {
				t.Fatalf("%s beside %v: rooms %+v, want %d tokens", c.Precision, image, rooms, c.Context)
			}
			falls := slices.IsSortedFunc(rooms, func(a, b Room) int { return b.Context - a.Context })
			if c.Layers == c.Of && !falls {
				t.Errorf("%s: rooms %+v grow with the image", c.Precision, rooms)
			}
		}
	}
	for asked, want := range map[[2]int][][2]int{
		{64, 64}:     {{64, 64}, {640, 480}, {1280, 720}},
		{1280, 720}:  {{640, 480}, {1280, 720}, {1920, 1080}},
		{3840, 2160}: {{1280, 720}, {1920, 1080}, {3840, 2160}},
		{4000, 3000}: {{1920, 1080}, {3840, 2160}, {4000, 3000}},
	} {
		if got := imagesAround(asked[0], asked[1]); !slices.Equal(got, want) {
			t.Errorf("around %v: %v, want %v", asked, got, want)
		}
	}
}

// TestGrownAsDeployed grows the context of a configuration and of the engine's own files on a card that holds the best
// weights beside a short context: both keep them, and the table says the same of the row that was taken.
func TestGrownAsDeployed(t *testing.T) {
	laptop, card, model := laptopWith(t, "qwen3-vl-2b")
	card.GPUs[0].MemoryBytes, laptop.Memory.TotalBytes = 19476146134, 71975232349
	in := Inputs{Hardware: profile.Combine(laptop, card), Model: model, Engine: "llama-server", Given: []string{"context"},
		Known:  &Estimates{},
		Limits: Limits{ContextTokens: 4097, ImageWidth: 400, ImageHeight: 300, Concurrency: 2}}
	files, err := WriteFor("llama-server", "context", in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Settle("context"); err != nil {
		t.Fatal(err)
	}
	b, ok := in.placeAlone()
	if !ok || b.Precision.Value != files.Estimate.Quant || b.Precision.Value != "f16" {
		t.Errorf("%s, and %s in the files", b.Precision.Value, files.Estimate.Quant)
	}
	if got := in.Limits.ContextTokens * in.Limits.Concurrency; got != files.Estimate.ContextTokens || got < 200000 {
		t.Errorf("%d tokens, and %d in the files", got, files.Estimate.ContextTokens)
	}
	for _, c := range in.servedChoices() {
		if c.Precision == b.Precision.Value && c.Context != in.Limits.ContextTokens {
			t.Errorf("the table has room for %d tokens of %d", c.Context, in.Limits.ContextTokens)
		}
	}
}

// What does not fit says what would: models, or by how much a machine is too small where none is small enough.
func TestAShortfallNamesWhatWouldFit(t *testing.T) {
	for want, models := range map[string][]string{"--model a, or --model b": {"--model a", "--model b"},
		"a machine, or a limit of its group, with 3 GiB more in host memory": nil} {
		s := Shortfall{Missing: 3 << 30, Where: "in host memory"}
		if s.Name(models); !strings.HasSuffix(s.Error(), "what would fit: "+want) {
			t.Errorf("%v, want %q", &s, want)
		}
	}
}
