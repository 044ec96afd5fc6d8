package probe

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// TestCards reads a stand-in driver. Its times mean nothing; that each is taken and named as measured does.
func TestCards(t *testing.T) {
	lib := standin.Build(t, standin.Options{Card: "gtx1080ti"})
	var h profile.Hardware
	cards(&h, lib.Path, t.TempDir(), true)
	if len(h.GPUs) != 1 {
		t.Fatalf("%d cards, unknown %v", len(h.GPUs), h.Unknown)
	}
	g := h.GPUs[0]
	if g.Name != "NVIDIA GeForce GTX 1080 Ti" || g.ComputeCapability != "6.1" || g.SMCount != 28 ||
		g.SharedMemoryPerBlockBytes != 48*units.KiB ||
		g.SharedMemoryPerSMBytes != 96*units.KiB || g.MaxThreadsPerBlock != 1024 || g.L2Bytes == 0 || g.MemoryBytes == 0 ||
		g.FreeBytes == nil || *g.FreeBytes == 0 {
		t.Errorf("card: %+v", g)
	}
	for key, rate := range map[string]units.Rate{
		"h2d_pinned_bytes_per_s": g.H2DPinnedBytesPerS, "d2h_pinned_bytes_per_s": g.D2HPinnedBytesPerS,
		"h2d_pageable_bytes_per_s": g.H2DPageableBytesPerS,
		"d2h_pageable_bytes_per_s": g.D2HPageableBytesPerS, "device_copy_bytes_per_s": g.DeviceCopyBytesPerS,
		"launch_latency_s": units.Rate(g.LaunchLatencySeconds),
	} {
		if rate <= 0 || !strings.HasPrefix(g.Source[key], "measured") {
			t.Errorf("%s is %v by %q", key, rate, g.Source[key])
		}
	}
	if err := h.Validate(); err != nil {
		t.Error(err)
	}
}

func TestNoCards(t *testing.T) {
	for name, options := range map[string]standin.Options{
		"no device": {Card: "none"},
		"mismatch":  {Fail: []string{"cuInit:1:803"}},
	} {
		t.Run(name, func(t *testing.T) {
			var h profile.Hardware
			cards(&h, standin.Build(t, options).Path, t.TempDir(), true)
			if len(h.GPUs) != 0 || h.Unknown["gpus"] == "" {
				t.Errorf("cards %v, unknown %v", h.GPUs, h.Unknown)
			}
		})
	}
	var h profile.Hardware
	cards(&h, "/nonexistent/libcuda.so.1", t.TempDir(), true)
	if h.Unknown["gpus"] == "" {
		t.Error("a missing driver is not told")
	}
}

// TestWhoBringsTheLibrary: under WSL2 and on Jetson no bus lists the card, and what is missing has one source.
func TestWhoBringsTheLibrary(t *testing.T) {
	for device, want := range map[string]string{"dxg": "/usr/lib/wsl/lib", "nvmap": "nvidia-l4t-cuda", "null": ""} {
		root := machine{"dev/" + device: "", "proc/meminfo": "MemTotal: 1024 kB\n"}.lay(t)
		var h profile.Hardware
		cards(&h, "/nonexistent/libcuda.so.1", root, false)
		why := h.Unknown["gpus"]
		if _, built := strings.CutPrefix(why, "no CUDA driver (/nonexistent"); !built && why != "" {
			t.Skip(why) // without cgo no library is looked for
		}
		if _, after, told := strings.Cut(why, "No such file or directory: "); told != (want != "") ||
			!strings.Contains(after, want) {
			t.Errorf("%s: %q, want %q", device, why, want)
		}
	}
}

// TestFullCard: no room for a context is nothing free, which is not the same as not knowing.
func TestFullCard(t *testing.T) {
	for call, want := range map[string]*units.Bytes{"cuDevicePrimaryCtxRetain:1:2": new(units.Bytes(0)),
		"cuDevicePrimaryCtxRetain:1:999": nil} {
		var h profile.Hardware
		cards(&h, standin.Build(t, standin.Options{Fail: []string{call}}).Path, t.TempDir(), false)
		if len(h.GPUs) != 1 || h.Unknown["gpus[0].measured"] == "" {
			t.Fatalf("%s: cards %v, unknown %v", call, h.GPUs, h.Unknown)
		}
		if got := h.GPUs[0].FreeBytes; (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: free %v, want %v", call, got, want)
		}
	}
}

// TestWindowsCards: under WSL2 the bus shows Windows' cards by an id that says nothing of them. Where CUDA describes a
// device they are no others; where it does not, they say what is to be done, as a lack of cards does.
func TestWindowsCards(t *testing.T) {
	standin.Build(t, standin.Options{}) // skips where no library is looked for, as without cgo
	root := machine{"dev/dxg": "", "proc/meminfo": "MemTotal: 1024 kB\n"}.lay(t)
	for _, test := range []struct {
		driver *standin.Options
		cards  int
		why    string
	}{
		{nil, 2, "/usr/lib/wsl/lib"},
		{&standin.Options{Fail: []string{"cuInit:1:100"}}, 2, "run wsl --update"},
		{&standin.Options{Card: "mx350"}, 1, ""},
	} {
		library := "/nonexistent/libcuda.so.1"
		if test.driver != nil {
			library = standin.Build(t, *test.driver).Path
		}
		windows := reported(t, smallMachine().with(pciCard("0000:03:00.0", "0x1414", "0x008e", nil))).Cards
		h := profile.Hardware{Cards: append(windows, profile.Card{Vendor: "QXL", Name: "QXL card", Why: noEngine})}
		cards(&h, library, root, false)
		if len(h.Cards) != test.cards || !strings.Contains(h.Unknown["gpus"], test.why) ||
			test.why == "" && len(h.Unknown) > 0 || test.cards == 2 && !strings.Contains(h.Cards[0].Why, test.why) {
			t.Errorf("%s: cards %+v, unknown %v", library, h.Cards, h.Unknown)
		}
	}
}

// TestCardFails: a card whose memory cannot be had is still described.
func TestCardFails(t *testing.T) {
	lib := standin.Build(t, standin.Options{Fail: []string{"cuMemAlloc_v2:1:2"}})
	var h profile.Hardware
	cards(&h, lib.Path, t.TempDir(), true)
	if len(h.GPUs) != 1 || h.GPUs[0].SMCount != 30 || h.Unknown["gpus[0].measured"] == "" {
		t.Errorf("cards %v, unknown %v", h.GPUs, h.Unknown)
	}
}
