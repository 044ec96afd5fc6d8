package report

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

var updateMachine = flag.Bool("update-machine", false, "write testdata/machine-*.txt anew")

var hybridMachine = profile.Hardware{
	Schema: profile.HardwareSchema, Name: "hybrid",
	CPU: &profile.CPU{Model: "13th Gen Intel(R) Core(TM) i7-1370P", Packages: 1, Cores: 14, Threads: 20,
		Offline: []int{3, 4, 5, 9}, Allowed: []int{0},
		Kinds: []profile.CoreKind{{Name: "performance", Cores: 6, Threads: 12}, {Name: "efficiency", Cores: 8, Threads: 8}},
		Caches: []profile.Cache{
			{Level: 1, Type: "data", SizeBytes: 48 * units.KiB, Ways: 12, SharedBy: 2, Instances: 6},
			{Level: 1, Type: "data", SizeBytes: 32 * units.KiB, SharedBy: 1, Instances: 8},
			{Level: 2, Type: "unified", SharedBy: 4, Instances: 2},
		}},
	Memory: &profile.Memory{TotalBytes: 32 * units.GiB},
	NUMA: []profile.Node{{ID: 0, MemoryBytes: 16 * units.GiB, Distances: []int{10, 21}},
		{ID: 1, MemoryBytes: 16 * units.GiB, Distances: []int{21, 10}}},
	Unknown: map[string]string{"memory.limit_bytes": "/proc/self/cgroup: not there",
		"cpu.caches[2].size_bytes": "the kernel tells no size"},
}

var timedMachine = profile.Hardware{
	Schema: profile.HardwareSchema, Name: "timed",
	CPU: &profile.CPU{Packages: 1, Cores: 4, Threads: 4, ISA: []string{"neon"},
		Caches: []profile.Cache{{Level: 1, Type: "data", SharedBy: 1, Instances: 4},
			{Level: 1, Type: "instruction", SharedBy: 1, Instances: 4}}},
	Memory: &profile.Memory{TotalBytes: 8 * units.GiB},
	Measured: &profile.Measured{L1Bytes: 64 * units.KiB, L2Bytes: 512 * units.KiB, LLCBytes: 1536 * units.KiB,
		L2Interval: &profile.Interval{Low: 400 * units.KiB, High: 600 * units.KiB}},
	Unknown: map[string]string{"cpu.caches[0].size_bytes": "the kernel tells no size"},
}

// machines are probed ones: a measured laptop with a card, and a capture with core kinds, nodes and holes.
func machines() map[string]Machine {
	size := func(b units.Bytes) *units.Bytes { return &b }
	quota := 1.5
	laptop := profile.Hardware{
		Schema: profile.HardwareSchema, Name: "laptop", Fingerprint: "0123456789abcdef",
		CPU: &profile.CPU{Model: "Intel Core i5-10210U", Packages: 1, Cores: 4, Threads: 8,
			ISA: []string{"sse4_2", "avx", "avx2", "fma"},
			Caches: []profile.Cache{
				{Level: 1, Type: "data", SizeBytes: 32 * units.KiB, Ways: 8, SharedBy: 2, Instances: 4},
				{Level: 1, Type: "instruction", SizeBytes: 32 * units.KiB, Ways: 8, SharedBy: 2, Instances: 4},
				{Level: 2, Type: "unified", SizeBytes: 256 * units.KiB, Ways: 4, SharedBy: 2, Instances: 4},
				{Level: 3, Type: "unified", SizeBytes: 6 * units.MiB, Ways: 12, SharedBy: 8, Instances: 1},
			}},
		Memory: &profile.Memory{TotalBytes: 8 * units.GiB, AvailableBytes: size(5 * units.GiB),
			LimitBytes: size(2 * units.GiB), PageBytes: 4 * units.KiB,
			HugePageBytes: 2 * units.MiB, TransparentHugePage: "madvise", MaxMlockBytes: size(8 * units.MiB)},
		System: &profile.System{Kernel: "6.1.0", PSI: true, CgroupV2: true, CPUQuota: &quota, Hypervisor: "kvm"},
		GPUs: []profile.GPU{{Name: "GeForce GTX 1080", ComputeCapability: "6.1", MemoryBytes: 8 * units.GiB,
			BandwidthBytesPerS: 320e9, SMCount: 20, MaxThreadsPerBlock: 1024,
			SharedMemoryPerBlockBytes: 48 * units.KiB, SharedMemoryPerSMBytes: 96 * units.KiB, DriverVersion: "580.95",
			H2DPinnedBytesPerS: 12e9, D2HPinnedBytesPerS: 13e9, H2DPageableBytesPerS: 6e9, D2HPageableBytesPerS: 7e9,
			DeviceCopyBytesPerS: 280e9, LaunchLatencySeconds: 5.5e-6}},
		Measured: &profile.Measured{L1Bytes: 32 * units.KiB, L2Bytes: 256 * units.KiB, LLCBytes: 5632 * units.KiB,
			L1Interval:        &profile.Interval{Low: 28 * units.KiB, High: 36 * units.KiB},
			LLCInterval:       &profile.Interval{Low: 5 * units.MiB, High: 6 * units.MiB},
			DRAMReadBytesPerS: 33.8e9, DRAMReadThreads: 8, DRAMLatencyS: 92e-9,
			Costs: map[string]float64{"page_fault": 5e-7, "huge_page_fault": 1.3e-4}},
		Warnings: []evidence.Warning{{Code: probe.Disturbed, Text: "DRAM load with 8 threads varies by 22 % between slices"}},
	}
	for i, l := range []float64{1.1, 1.1, 1.1, 1.2, 4, 4, 4.1, 12, 13, 14, 15, 40, 80, 88, 92} {
		laptop.Measured.Latency = append(laptop.Measured.Latency,
			profile.LatencyPoint{Bytes: 4 * units.KiB << i, Order: "random", Seconds: l * 1e-9},
			profile.LatencyPoint{Bytes: 4 * units.KiB << i, Order: "page-local", Seconds: l * 0.6e-9})
	}
	return map[string]Machine{
		"laptop": {laptop, []string{"L3 is shared by 8 threads: tiles use what one can keep, 768 KiB"}, nil},
		"hybrid": {hybridMachine, nil, nil},
		"timed":  {timedMachine, nil, nil},
		"empty":  {profile.Hardware{Unknown: map[string]string{"cpu": "no CPU", "gpus": "no CUDA driver"}}, nil, nil},
	}
}

func TestMachineTable(t *testing.T) {
	for name, m := range machines() {
		var b bytes.Buffer
		if err := m.Write(&b, "table"); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%s: a line of %d columns: %s", name, n, line)
			}
		}
		if n := strings.Count(b.String(), "\n"); n > 30 {
			t.Errorf("%s: %d lines are more than a screen", name, n)
		}
		path := filepath.Join("testdata", "machine-"+name+".txt")
		if *updateMachine {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s: got\n%swant\n%s", name, b.String(), want)
		}
	}
}

func TestMachineDocuments(t *testing.T) {
	m := machines()["laptop"]
	var b bytes.Buffer
	if err := m.Write(&b, "yaml"); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.DecodeHardware("x.yaml", b.Bytes()); err != nil {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := m.Write(&b, "json"); err != nil {
		t.Fatal(err)
	}
	if _, err := profile.DecodeHardware("x.json", b.Bytes()); err != nil {
		t.Errorf("%v\n%s", err, b.String())
	}
}
