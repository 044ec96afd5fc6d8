package report

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

func TestFeatures(t *testing.T) {
	vram := 24 * units.GiB
	h := profile.Hardware{
		Memory: &profile.Memory{TotalBytes: 8 * units.GiB, Bounds: []profile.Bound{
			{Name: "host", LimitBytes: 8 * units.GiB, LeftBytes: units.GiB},
			{Name: "memory.high of /kubepods", LimitBytes: 4 * units.GiB, LeftBytes: 3 * units.GiB}}},
		Cards: []profile.Card{{Vendor: "NVIDIA", Name: "of the driver", Backends: []string{"cuda"}, Visible: true},
			{Vendor: "AMD", Name: "Radeon RX 7900 XTX", Backends: []string{"rocm", "vulkan"}, Architecture: "rdna3",
				VRAMBytes: &vram}, {Vendor: "ASPEED", Name: "a display"}},
		Measured: &profile.Measured{LLCBytes: 5 * units.MiB, DRAMReadBytesPerS: 33.8e9},
		GPUs: []profile.GPU{{Name: "GeForce GTX 1080", ComputeCapability: "6.1", MemoryBytes: 8 * units.GiB,
			BandwidthBytesPerS: 320e9}, {Name: "RX 7900", Backend: "rocm"}},
	}
	want := `vlmem-llc-kept-bytes=5242880
vlmem-memory-bandwidth-class=32
vlmem-memory-bytes=4294967296
vlmem-memory-binds=memory.high
vlmem-gpus=2
vlmem-gpu-0-name=GeForce-GTX-1080
vlmem-gpu-0-compute-capability=6.1
vlmem-gpu-0-memory-bytes=8589934592
vlmem-gpu-0-bandwidth-class=256
vlmem-gpu-1-name=RX-7900
vlmem-gpu-1-backend=rocm
vlmem-cards=1
vlmem-card-0-vendor=AMD
vlmem-card-0-name=Radeon-RX-7900-XTX
vlmem-card-0-architecture=rdna3
vlmem-card-0-backend=rocm
vlmem-card-0-memory-bytes=25769803776
`
	var b strings.Builder
	if err := Features(&b, h); err != nil || b.String() != want {
		t.Errorf("%v, got\n%swant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := Features(&b, profile.Hardware{}); err != nil || b.String() != "vlmem-gpus=0\n" {
		t.Errorf("nothing known: %v, %q", err, b.String())
	}
}

// TestFeaturesAreLabels: whatever a driver calls its card, every line is a name and a value that Kubernetes takes.
func TestFeaturesAreLabels(t *testing.T) {
	label := regexp.MustCompile(`^vlmem-[a-z0-9-]{1,57}=[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		h := profile.Hardware{GPUs: []profile.GPU{{Name: rapid.String().Draw(t, "name"), MemoryBytes: 1,
			BandwidthBytesPerS: units.Rate(rapid.Float64Range(-1, 1e15).Draw(t, "rate"))}}}
		if err := Features(&b, h); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if !label.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%q", line)
			}
		}
	})
}
