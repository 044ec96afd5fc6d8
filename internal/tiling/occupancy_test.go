package tiling

import (
	"encoding/csv"
	"os"
	"strconv"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// card is an SM as the CUDA C++ Programming Guide's table of technical specifications has it.
func card(cc string) profile.GPU {
	g := profile.GPU{ComputeCapability: cc, SMCount: 1, MaxThreadsPerBlock: 1024, RegistersPerSM: 65536,
		RegistersPerBlock: 65536, SharedMemoryPerBlockBytes: 49152}
	switch cc {
	case "6.1":
		g.MaxThreadsPerSM, g.MaxBlocksPerSM, g.SharedMemoryPerSMBytes = 2048, 32, 98304
	case "7.5":
		g.MaxThreadsPerSM, g.MaxBlocksPerSM, g.SharedMemoryPerSMBytes, g.SharedMemoryPerBlockOptin = 1024, 16, 65536, 65536
	case "8.6":
		g.MaxThreadsPerSM, g.MaxBlocksPerSM, g.SharedMemoryPerSMBytes, g.SharedMemoryPerBlockOptin = 1536, 16, 102400, 101376
	case "9.0":
		g.MaxThreadsPerSM, g.MaxBlocksPerSM, g.SharedMemoryPerSMBytes, g.SharedMemoryPerBlockOptin = 2048, 32, 233472, 232448
	}
	return g
}

// occupancies were worked out by the cells of the CUDA Occupancy Calculator spreadsheet (CUDA 11), which rounds in
// another way than cuda_occupancy.h: warps by registers = FLOOR(65536 / CEILING(32·registers, 256), 4), shared memory
// in units of 256 B (6.1, 7.5) or 128 B after 1024 B of the system's (8.6, 9.0). 0 blocks is a launch that fails.
var occupancies = []struct {
	cc                        string
	threads, registers, bytes int
	blocks                    int
}{
	{"6.1", 32, 16, 0, 32},
	{"6.1", 64, 53, 4915, 18},
	{"6.1", 128, 156, 49152, 2},
	{"6.1", 256, 32, 33280, 2},
	{"6.1", 256, 64, 41472, 2},
	{"6.1", 256, 128, 45312, 2},
	{"6.1", 512, 40, 24576, 3},
	{"6.1", 1024, 32, 0, 2},
	{"6.1", 1024, 64, 16384, 1},
	{"6.1", 96, 255, 1000, 2},
	{"6.1", 192, 37, 8193, 8},
	{"6.1", 224, 72, 12289, 4},
	{"6.1", 1, 24, 1, 32},
	{"6.1", 320, 96, 48000, 2},
	{"7.5", 32, 16, 0, 16},
	{"7.5", 64, 53, 4915, 12},
	{"7.5", 128, 156, 49152, 1},
	{"7.5", 256, 32, 33280, 1},
	{"7.5", 256, 64, 41472, 1},
	{"7.5", 256, 128, 45312, 1},
	{"7.5", 512, 40, 24576, 2},
	{"7.5", 1024, 32, 0, 1},
	{"7.5", 1024, 64, 16384, 1},
	{"7.5", 96, 255, 1000, 2},
	{"7.5", 192, 37, 8193, 5},
	{"7.5", 224, 72, 12289, 4},
	{"7.5", 1, 24, 1, 16},
	{"7.5", 320, 96, 48000, 1},
	{"8.6", 32, 16, 0, 16},
	{"8.6", 64, 53, 4915, 16},
	{"8.6", 128, 156, 49152, 2},
	{"8.6", 256, 32, 33280, 2},
	{"8.6", 256, 64, 41472, 2},
	{"8.6", 256, 128, 45312, 2},
	{"8.6", 512, 40, 24576, 3},
	{"8.6", 1024, 32, 0, 1},
	{"8.6", 1024, 64, 16384, 1},
	{"8.6", 96, 255, 1000, 2},
	{"8.6", 192, 37, 8193, 8},
	{"8.6", 224, 72, 12289, 4},
	{"8.6", 1, 24, 1, 16},
	{"8.6", 320, 96, 48000, 2},
	{"9.0", 32, 16, 0, 32},
	{"9.0", 64, 53, 4915, 18},
	{"9.0", 128, 156, 49152, 3},
	{"9.0", 256, 32, 33280, 6},
	{"9.0", 256, 64, 41472, 4},
	{"9.0", 256, 128, 45312, 2},
	{"9.0", 512, 40, 24576, 3},
	{"9.0", 1024, 32, 0, 2},
	{"9.0", 1024, 64, 16384, 1},
	{"9.0", 96, 255, 1000, 2},
	{"9.0", 192, 37, 8193, 8},
	{"9.0", 224, 72, 12289, 4},
	{"9.0", 1, 24, 1, 32},
	{"9.0", 320, 96, 48000, 2},
}

func TestOccupancy(t *testing.T) {
	for _, c := range occupancies {
		launch := Launch{Threads: c.threads, Registers: c.registers, SharedBytes: units.Bytes(c.bytes)}
		o, err := OccupancyOf(card(c.cc), launch)
		if (err == nil) != (c.blocks > 0) || o.BlocksPerSM != c.blocks {
			t.Errorf("%s %+v: %+v, %v; want %d blocks", c.cc, launch, o, err, c.blocks)
		}
		// The constants of a compute capability stand in for a profile that leaves them out.
		bare := card(c.cc)
		bare.MaxThreadsPerSM, bare.MaxBlocksPerSM, bare.SharedMemoryPerSMBytes, bare.RegistersPerSM = 0, 0, 0, 0
		if o, _ := OccupancyOf(bare, launch); o.BlocksPerSM != c.blocks {
			t.Errorf("%s from constants, %+v: %+v, want %d blocks", c.cc, launch, o, c.blocks)
		}
	}
}

// result.csv was written by tools/reference/occupancy/run, which asks cuda_occupancy.h itself.
func TestOccupancyEqualsTheVendors(t *testing.T) {
	f, err := os.Open("../../tools/reference/occupancy/result.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		var n [4]int
		for i := range n {
			if n[i], err = strconv.Atoi(row[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		gpu := profile.GPU{ComputeCapability: row[0], SMCount: 1, MaxThreadsPerBlock: 1024, RegistersPerBlock: 65536,
			SharedMemoryPerBlockBytes: 48 << 10, SharedMemoryPerBlockOptin: optins[row[0]]}
		if o, err := OccupancyOf(gpu, Launch{n[0], n[1], units.Bytes(n[2])}); (err == nil) != (n[3] > 0) ||
			o.BlocksPerSM != n[3] {
			t.Errorf("%v: %+v, %v", row, o, err)
		}
	}
	if len(rows) < 500 {
		t.Errorf("%d launches", len(rows))
	}
}

// optins are the most shared memory that a block may ask for, where that is more than 48 KiB.
var optins = map[string]units.Bytes{"7.0": 96 << 10, "7.5": 64 << 10, "8.0": 163 << 10, "8.6": 99 << 10,
	"8.9": 99 << 10, "9.0": 227 << 10}

func TestOccupancyNamesTheLimit(t *testing.T) {
	for _, c := range []struct {
		launch Launch
		want   string
	}{
		{Launch{1024, 16, 0}, "warps"}, {Launch{32, 16, 0}, "blocks"}, {Launch{256, 128, 0}, "registers"},
		{Launch{64, 16, 40000}, "shared memory"},
	} {
		if o, err := OccupancyOf(card("6.1"), c.launch); err != nil || o.LimitedBy != c.want {
			t.Errorf("%+v: %+v, %v; want %s", c.launch, o, err, c.want)
		}
	}
}

func TestOccupancyRefuses(t *testing.T) {
	for name, l := range map[string]Launch{
		"no threads": {0, 16, 0}, "1025 threads": {1025, 16, 0}, "256 registers": {32, 256, 0},
		"49153 B": {32, 16, 49153}, "too many registers": {1024, 128, 0},
	} {
		if _, err := OccupancyOf(card("6.1"), l); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := OccupancyOf(profile.GPU{ComputeCapability: "?"}, Launch{32, 16, 0}); err == nil {
		t.Error("a card without a compute capability was served")
	}
}
