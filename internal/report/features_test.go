package report

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

func TestFeatures(t *testing.T) {
	vram := 24 * units.GiB
	h := profile.Hardware{
		Memory: &profile.Memory{TotalBytes: 8 * units.GiB, Bounds: []profile.Bound{
			{Name: profile.HostMemory, LimitBytes: 8 * units.GiB, LeftBytes: units.GiB},
			{Name: profile.ControlGroup + " /kubepods" + profile.Throttling,
				LimitBytes: 4 * units.GiB, LeftBytes: 3 * units.GiB}}},
		Cards: []profile.Card{{Vendor: "NVIDIA", Name: "of the driver", Backends: []string{"cuda"}, Visible: true},
			{Vendor: "AMD", Name: "Radeon RX 7900 XTX", Backends: []string{"rocm", "vulkan"}, Architecture: "rdna3",
				VRAMBytes: &vram}, {Vendor: "ASPEED", Name: "a display"},
			{Vendor: "Intel", Name: "UHD Graphics", Backends: []string{"vulkan", "sycl"}, Unified: true}},
		Measured: &profile.Measured{LLCBytes: 5 * units.MiB, DRAMReadBytesPerS: 33.8e9},
		GPUs: []profile.GPU{{Name: "GeForce GTX 1080", ComputeCapability: "6.1", MemoryBytes: 8 * units.GiB,
			BandwidthBytesPerS: 320e9}, {Name: "RX 7900", Backend: "rocm", UnifiedMemory: true}},
	}
	want := `vlmem-llc-kept-bytes=5242880
vlmem-memory-bandwidth-class=32
vlmem-memory-bytes=4294967296
vlmem-memory-binds=cgroup-high
vlmem-gpus=2
vlmem-gpu-0-name=GeForce-GTX-1080
vlmem-gpu-0-compute-capability=6.1
vlmem-gpu-0-memory=own
vlmem-gpu-0-memory-bytes=8589934592
vlmem-gpu-0-bandwidth-class=256
vlmem-gpu-1-name=RX-7900
vlmem-gpu-1-backend=rocm
vlmem-gpu-1-memory=shared
vlmem-cards=1
vlmem-cards-shared=1
vlmem-card-0-vendor=AMD
vlmem-card-0-name=Radeon-RX-7900-XTX
vlmem-card-0-architecture=rdna3
vlmem-card-0-backend=rocm
vlmem-card-0-memory=own
vlmem-card-0-memory-bytes=25769803776
vlmem-card-1-vendor=Intel
vlmem-card-1-name=UHD-Graphics
vlmem-card-1-backend=vulkan
vlmem-card-1-memory=shared
vlmem-fits-qwen3-vl-8b=f16
vlmem-fits-qwen3-vl-8b-context=4096
vlmem-fits-qwen3-vl-8b-layers=36
`
	fits := []fleet.Answer{{Model: "Qwen3-VL-8B", Fits: []string{"n"}, Precision: "f16", Context: 4096, Layers: 36},
		{Model: "qwen3-vl-32b", Verdict: "too large"}}
	var b strings.Builder
	if err := Features(&b, h, fits); err != nil || b.String() != want {
		t.Errorf("%v, got\n%swant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := Features(&b, profile.Hardware{}, nil); err != nil || b.String() != "vlmem-gpus=0\n" {
		t.Errorf("nothing known: %v, %q", err, b.String())
	}
}

// TestOneLabelIsOneModels: names that differ where a label does not are refused.
func TestOneLabelIsOneModels(t *testing.T) {
	fits := []fleet.Answer{{Model: "a b", Fits: []string{"n"}}, {Model: "a/a-b", Fits: []string{"n"}}}
	err := Features(&strings.Builder{}, profile.Hardware{}, fits)
	if err == nil || !strings.Contains(err.Error(), "a b and a/a-b would both have the label vlmem-fits-a-b") {
		t.Error(err)
	}
}

// TestFeaturesAreLabels: whatever a driver calls its card, every line is a name and a value that Kubernetes takes.
func TestFeaturesAreLabels(t *testing.T) {
	label := regexp.MustCompile(`^vlmem-[a-z0-9._-]{0,56}[a-z0-9]=[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		h := profile.Hardware{GPUs: []profile.GPU{{Name: rapid.String().Draw(t, "name"), MemoryBytes: 1,
			BandwidthBytesPerS: units.Rate(rapid.Float64Range(-1, 1e15).Draw(t, "rate"))}}}
		model := "m" + rapid.String().Draw(t, "model")
		fits := []fleet.Answer{{Model: model, Fits: []string{"n"}, Precision: "q4_k_m", Context: 4096}}
		if err := Features(&b, h, fits); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if !label.MatchString(strings.TrimSuffix(line, "\n")) {
				t.Errorf("%q", line)
			}
		}
	})
}
