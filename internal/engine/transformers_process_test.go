package engine

import (
	"math"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// Calls of Qwen3-VL-2B with random weights in bfloat16 that vlmem run followed (tools/reference/models/generate.py,
// transformers 5.24.0, torch 2.15.0, glibc 2.36): the most anonymous memory, and with pages of files, in MiB.
func TestProcessOfTransformers(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		image            Image
		context          int
		anonymous, total float64
	}{
		{Image{640, 480}, 604, 629.9, 5027}, {Image{1280, 704}, 1216, 802.2, 5202}, {Image{320, 224}, 2002, 947.2, 5281},
	} {
		mem := estimate(t, "transformers", &m, Options{Context: c.context, Device: "cpu", Image: &c.image})
		var anonymous, total units.Bytes
		for _, i := range append(mem.Items, mem.Own...) {
			total += i.Bytes
			if i.Backing != BackedFile {
				anonymous += i.Bytes
			}
			if i.Low > i.Bytes || i.High < i.Bytes {
				t.Errorf("%s: %v outside %v to %v", i.Name, i.Bytes, i.Low, i.High)
			}
		}
		for _, f := range []struct {
			name       string
			got        units.Bytes
			want, most float64
		}{{"anonymous", anonymous, c.anonymous, 0.03}, {"total", total, c.total, 0.01}} {
			if off := float64(f.got)/float64(units.MiB)/f.want - 1; math.Abs(off) > f.most {
				t.Errorf("%v: %s %v, %.1f MiB were seen, %+.1f %%", c.image, f.name, f.got, f.want, 100*off)
			}
		}
	}
}
