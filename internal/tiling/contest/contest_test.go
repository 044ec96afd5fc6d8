package contest

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/profiles"
)

func TestParseShape(t *testing.T) {
	for _, c := range []struct {
		in  string
		bad bool
	}{
		{in: "1024x1024x1024"}, {in: "attention:2040x2040x128"}, {in: "1x1x1"},
		{in: "", bad: true}, {in: "1x2", bad: true}, {in: "1x2x3x4", bad: true}, {in: "0x1x1", bad: true},
		{in: "-1x1x1", bad: true},
		{in: "axbxc", bad: true}, {in: "sgemm:1x1x1", bad: true}, {in: "1000000x1000000x1", bad: true},
		{in: "1x1x1 x", bad: true},
	} {
		s, err := ParseShape(c.in)
		if (err != nil) != c.bad || (err == nil && s.String() != c.in) {
			t.Errorf("%q: %v, %v", c.in, s, err)
		}
	}
}

func TestTimingsOnACardAreKept(t *testing.T) {
	card350 := func() (profile.GPU, error) {
		h, err := profiles.Hardware("mx350")
		return h.GPUs[0], err
	}
	shape := []Shape{{size: [3]int{64, 64, 64}}}
	memory := card.Memory{Path: filepath.Join(t.TempDir(), "tiles.json")}
	library := standin.Build(t, standin.Options{Card: "mx350"}).Path
	// The stand-in driver names itself and runs none of our kernels.
	if _, err := OnCard(library, card350, memory, false, shape); err == nil ||
		!strings.Contains(err.Error(), "running product_") {
		t.Errorf("on the stand-in: %v", err)
	}
	driver, err := cuda.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	devices, err := driver.Devices()
	if err != nil {
		t.Fatal(err)
	}
	kept := []card.Timing{{Entry: "product_m64_n64_k16_t4x4", Seconds: 1e-3, Registers: 48},
		{Entry: "product_m32_n128_k8_t8x8", Seconds: 2e-3, Registers: 149}, {Entry: "of an older program", Seconds: 3e-3}}
	if err := memory.Keep(card.Key(devices[0].UUID, strconv.Itoa(driver.Version()), shape[0].String()), kept); err != nil {
		t.Fatal(err)
	}
	result, err := OnCard(library, card350, memory, false, shape)
	if err != nil || !result.Shapes[0].Recalled || *result.Shapes[0].Agreement != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
}
