package estimate

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/settings"
)

// typed reports whether a setting was given by the person who asks. One that stands in an engine's own file or command
// is taken as the engine takes it: what has no effect there is passed over there too.
func (o *Request) typed(flag string) bool {
	return o.given(flag) && !slices.Contains(o.FromFile, flag) && (o.Typed == nil || o.Typed(flag))
}

// towerFlags say something of images, or of the tower that reads them.
var towerFlags = []string{"mmproj", "mmproj-quant", "no-mmproj-offload", "image-max-tokens", "images", "frames",
	"image-limit"}

// idle refuses a flag that would change nothing with this model, these images and this device.
func (o *Request) idle(m *profile.Model) error {
	if err := o.idleTower(m); err != nil {
		return err
	}
	if err := o.idleOverrides(m); err != nil {
		return err
	}
	if err := o.idleMain(); err != nil {
		return err
	}
	if o.typed("swa-full") && !engine.LlamaWindow(m) {
		return fmt.Errorf("--swa-full has no effect: no layer of %s sees a window", m.Name)
	}
	s := &o.Settings
	if o.typed("tensor-split") && s.SplitMode == "none" {
		return fmt.Errorf("--tensor-split has no effect with --split-mode none, which leaves one card: give one")
	}
	if pattern := engine.IdleOverride(m, o.Options, len(s.Overrides)); pattern != "" && o.given("override-tensor") {
		// llama.cpp takes it, and one pattern for many models is common: it is said, not refused.
		o.note("--override-tensor %s has no effect, there as here: no tensor of %s has such a name", pattern, m.Name)
	}
	if most := settings.AtMost("image-max-tokens", s.ImageMost, m.Text.MaxPositions); o.typed("image-max-tokens") {
		if err := settings.Within(most); err != nil { // more tokens of an image than the model has positions
			return err
		}
	}
	for _, other := range []string{"no-mmap", "mlock"} {
		if o.typed("load-mode") && o.typed(other) {
			return fmt.Errorf("--load-mode %s and --%s both say how the file is loaded: give one", s.LoadMode, other)
		}
	}
	return nil
}

// idleTower refuses what speaks of images where none are read.
func (o *Request) idleTower(m *profile.Model) error {
	why := "with --image none"
	switch {
	case m.TextOnly():
		why = "on " + m.Name + ", which reads no images"
	case o.ImageSize != "none":
		return nil
	}
	for _, flag := range towerFlags {
		if o.typed(flag) {
			return fmt.Errorf("--%s has no effect %s: leave one of them out", flag, why)
		}
	}
	return nil
}

// idleOverrides refuses to leave on the host what a model does not have.
func (o *Request) idleOverrides(m *profile.Model) error {
	experts := engine.ExpertLayers(m)
	dense := m.Text.Layers - experts
	for _, c := range []struct {
		flag  string
		there bool
		what  string
	}{
		{"cpu-moe", experts > 0, "no experts; --n-cpu-ffn leaves a dense model's feed-forward weights on the host"},
		{"n-cpu-moe", experts > 0, "no experts; --n-cpu-ffn leaves a dense model's feed-forward weights on the host"},
		{"n-cpu-ffn", dense > 0, "no layers but those of experts; --n-cpu-moe leaves these on the host"},
	} {
		if o.typed(c.flag) && !c.there {
			return fmt.Errorf("--%s has no effect: %s has %s", c.flag, m.Name, c.what)
		}
		if o.given(c.flag) && !c.there {
			o.note("%s has no effect, there as here: %s has %s", c.flag, m.Name, c.what)
		}
	}
	return nil
}
