package tiling

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"pgregory.net/rapid"
)

// cometLake is an i5-10210U.
func cometLake() profile.CPU {
	return profile.CPU{Model: "i5-10210U", Packages: 1, Cores: 4, Threads: 8, ISA: []string{"avx2", "fma"},
		Caches: []profile.Cache{
			{Level: 1, Type: "data", SizeBytes: 32 << 10, Ways: 8, LineBytes: 64, SharedBy: 2, Instances: 4},
			{Level: 1, Type: "instruction", SizeBytes: 32 << 10, Ways: 8, LineBytes: 64, SharedBy: 2, Instances: 4},
			{Level: 2, Type: "unified", SizeBytes: 256 << 10, Ways: 4, LineBytes: 64, SharedBy: 2, Instances: 4},
			{Level: 3, Type: "unified", SizeBytes: 6 << 20, Ways: 12, LineBytes: 64, SharedBy: 8, Instances: 1},
		}}
}

func TestCPUTiles(t *testing.T) {
	bare := profile.CPU{Cores: 2, Caches: []profile.Cache{{Level: 1, Type: "data", SizeBytes: 32 << 10, SharedBy: 1,
		Instances: 2}}}
	for _, c := range []struct {
		name     string
		cpu      profile.CPU
		measured *profile.Measured
		threads  int
		want     SGEMMTiles
		warnings int
	}{
		// Tables by hand from the package comment's equations: kc 320 is 2 ways of A, 5 of B, 1 for C. 102 rows of A in 2 of
		// 4 ways of 64 KiB, 4096 columns of B in 10 of 12 ways of 512 KiB.
		{"one thread", cometLake(), nil, 1, SGEMMTiles{6, 16, 320, 102, 4096}, 0},
		{"a thread per core", cometLake(), nil, 4, SGEMMTiles{6, 16, 320, 102, 400}, 0},
		{"a thread per logical CPU", cometLake(), nil, 8, SGEMMTiles{6, 16, 128, 84, 512}, 0},
		{"L3 measured smaller", cometLake(), &profile.Measured{LLCBytes: 3 << 20}, 1, SGEMMTiles{6, 16, 320, 102, 1632}, 0},
		{"L3 measured larger", cometLake(), &profile.Measured{LLCBytes: 30 << 20}, 1, SGEMMTiles{6, 16, 320, 102, 4096}, 0},
		{"nothing named, all timed", profile.CPU{Cores: 4, Threads: 4, ISA: []string{"avx2", "fma"}},
			&profile.Measured{L1Bytes: 32 << 10, L2Bytes: 256 << 10, LLCBytes: 6 << 20}, 1,
			// 150 rows of A in 6 of 8 ways of 32 KiB, 3680 columns of B in 6 of 8 ways of 768 KiB
			SGEMMTiles{6, 16, 320, 150, 3680}, 3},
		{"two levels timed", profile.CPU{Cores: 4, Threads: 4, ISA: []string{"avx2", "fma"}},
			&profile.Measured{L1Bytes: 32 << 10, L2Bytes: 1 << 20, LLCBytes: 1 << 20}, 1,
			SGEMMTiles{6, 16, 320, 612, 4096}, 2},
		{"L1 alone, ways unknown", bare, nil, 2, SGEMMTiles{6, 8, 512, 96, 4096}, 2},
	} {
		got, err := CPU(c.cpu, c.measured, CPUWork{Threads: c.threads})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got.SGEMM != c.want || len(got.Warnings) != c.warnings {
			t.Errorf("%s: %+v, warnings %q; want %+v and %d", c.name, got.SGEMM, got.Warnings, c.want, c.warnings)
		}
	}
	if _, err := CPU(profile.CPU{Cores: 1}, nil, CPUWork{}); err == nil {
		t.Error("a machine without caches was served")
	}
}

func TestAttentionTiles(t *testing.T) {
	epyc := cometLake()
	epyc.ISA = []string{"avx2", "fma", "avx512f"}
	epyc.Caches[2] = profile.Cache{Level: 2, Type: "unified", SizeBytes: 1 << 20, Ways: 8, LineBytes: 64, SharedBy: 1,
		Instances: 4}
	for _, c := range []struct {
		name string
		cpu  profile.CPU
		want AttentionTiles
	}{
		// 49152 elements of L2: x = 82, 5 register tiles of 16 keys; (49152 - 2·80·128) / (2·128 + 80) = 85 rows.
		{"i5-10210U", cometLake(), AttentionTiles{128, 84, 80}},
		{"an L2 of 1 MiB", epyc, AttentionTiles{128, 444, 160}},
	} {
		got, err := CPU(c.cpu, nil, CPUWork{HeadDim: 128, Threads: 1})
		if err != nil || got.Attention != c.want {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got.Attention, err, c.want)
		}
	}
}

func TestCPUTilesFitTheirCaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cpu := cometLake()
		cpu.ISA = rapid.SampledFrom([][]string{nil, {"avx2", "fma"}, {"avx512f", "avx2", "fma"}, {"avx2"}}).Draw(t, "isa")
		for i, c := range []struct{ ways, sets int }{{12, 256}, {0, 0}, {16, 4096}, {20, 65536}} {
			if c.ways > 0 {
				cpu.Caches[i].Ways = rapid.IntRange(4, c.ways).Draw(t, "ways")
				cpu.Caches[i].Sets = rapid.IntRange(32, c.sets).Draw(t, "sets")
				cpu.Caches[i].SizeBytes = 64 * units.Bytes(cpu.Caches[i].Ways*cpu.Caches[i].Sets)
			}
		}
		tiles, err := CPU(cpu, nil, CPUWork{HeadDim: 4 * rapid.IntRange(1, 64).Draw(t, "headDim/4"),
			Threads: rapid.IntRange(0, 8).Draw(t, "threads")})
		if err != nil {
			t.Fatal(err)
		}
		g, a, l1 := tiles.SGEMM, tiles.Attention, tiles.Caches[0]
		if g.MC%g.MR != 0 || g.NC%g.NR != 0 || a.BlockQ%g.MR != 0 || a.BlockKV%g.NR != 0 ||
			min(g.MC, g.NC, g.KC, a.BlockQ, a.BlockKV) < 1 {
			t.Fatalf("%+v %+v are not whole register tiles", g, a)
		}
		if used := units.Bytes(floatBytes * (2*a.BlockQ*a.HeadDim + 2*a.BlockKV*a.HeadDim +
			a.BlockQ*a.BlockKV)); a.BlockQ > g.MR && a.BlockKV > g.NR && used > tiles.Caches[1].Bytes {
			t.Fatalf("attention blocks of %d B in an L2 of %d B", used, tiles.Caches[1].Bytes)
		}
		if used := units.Bytes(floatBytes * (g.MR + g.NR) * g.KC); g.KC > kcStep && used > l1.Bytes {
			t.Fatalf("micropanels of %d B in an L1 of %d B", used, l1.Bytes)
		}
	})
}
