package cachesim

import (
	"encoding/csv"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"pgregory.net/rapid"
)

// oracle is the same hierarchy by the book: for each line the time of its last use, the oldest of a full set goes.
type oracle struct {
	shape  []Level
	used   []map[uint64]int
	time   int
	misses []uint64
}

func (o *oracle) touchLine(level int, line uint64) bool {
	l, used := o.shape[level], o.used[level]
	sets := uint64(l.Bytes / l.Ways / l.Line)
	o.time++
	_, hit := used[line]
	used[line] = o.time
	oldest, members := line, 0
	for other, t := range used {
		if other%sets == line%sets {
			if members++; t < used[oldest] {
				oldest = other
			}
		}
	}
	if members > l.Ways {
		delete(used, oldest)
	}
	return hit
}

func (o *oracle) touch(address uint64, n int) {
	for i, l := range o.shape {
		hit := true
		for line := address / uint64(l.Line); line <= (address+uint64(n)-1)/uint64(l.Line); line++ {
			hit = o.touchLine(i, line) && hit
		}
		if hit {
			return
		}
		o.misses[i]++
	}
}

func TestHierarchyAgreesWithTheBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &oracle{}
		for range rapid.IntRange(1, 3).Draw(t, "levels") {
			ways := rapid.IntRange(1, 4).Draw(t, "ways")
			o.shape = append(o.shape, Level{Bytes: 64 * ways * rapid.IntRange(1, 5).Draw(t, "sets"), Ways: ways, Line: 64})
			o.used = append(o.used, map[uint64]int{})
			o.misses = append(o.misses, 0)
		}
		h, err := New(o.shape...)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range rapid.SliceOfN(rapid.Uint64Range(0, 3000), 0, 300).Draw(t, "addresses") {
			h.Touch(address, 32)
			o.touch(address, 32)
			for i, c := range h.Counts() {
				if c.Misses != o.misses[i] {
					t.Fatalf("after %d: level %d missed %d times, want %d", address, i+1, c.Misses, o.misses[i])
				}
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, levels := range map[string][]Level{
		"none": nil, "no ways": {{32768, 0, 64}}, "odd line": {{32768, 8, 48}}, "part of a set": {{1000, 8, 64}},
		"two lines": {{32768, 8, 64}, {1 << 20, 8, 128}},
	} {
		if _, err := New(levels...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCountsAndReset(t *testing.T) {
	h, err := New(Level{512, 2, 64})
	if err != nil {
		t.Fatal(err)
	}
	h.Touch(0, 4)
	h.Touch(60, 8) // the line that is there and the next
	h.Touch(64, 64)
	if c := h.Counts()[0]; c != (Counts{3, 2}) || math.Abs(c.MissRate()-2.0/3) > 1e-9 {
		t.Errorf("counts %+v", c)
	}
	h.Reset()
	h.Touch(0, 4)
	if c := h.Counts()[0]; c != (Counts{1, 0}) || (Counts{}).MissRate() != 0 {
		t.Errorf("after reset: %+v", c)
	}
}

// cometLake is the first and the last level of an i5-10210U, which is all that cachegrind models.
var cometLake = []Level{{32 << 10, 8, 64}, {6 << 20, 12, 64}}

func replay(t *testing.T, name string, n []int) []Counts {
	h, err := New(cometLake...)
	if err != nil {
		t.Fatal(err)
	}
	v := kernel.For([]string{"avx2", "fma"})
	switch name {
	case "sgemm":
		return Multiply(h, v, kernel.Tiled, n[0], n[1], n[2], kernel.Blocks{MC: n[3], NC: n[4], KC: n[5]})
	case "sgemm-untiled":
		return Multiply(h, v, kernel.Untiled, n[0], n[1], n[2], kernel.Blocks{})
	case "attention":
		return Attention(h, v, kernel.Tiled, n[0], n[1], n[2], kernel.AttentionBlocks{Queries: n[3], Keys: n[4]})
	case "attention-untiled":
		return Attention(h, v, kernel.Untiled, n[0], n[1], n[2], kernel.AttentionBlocks{})
	case "transpose":
		return Transpose(h, n[0], n[1], n[2])
	case "patches":
		return Patches(h, kernel.PatchShape{Planes: n[0], Height: n[1], Width: n[2], Size: n[3], Merge: n[4]}, n[5])
	}
	t.Fatalf("unknown kernel %q", name)
	return nil
}

// result.csv was written by tools/reference/cachegrind/run, which counts the kernels themselves.
func TestAgreesWithCachegrind(t *testing.T) {
	f, err := os.Open("../../../tools/reference/cachegrind/result.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		t.Run(row[0]+" "+row[1], func(t *testing.T) {
			t.Parallel()
			var sizes []int
			for _, s := range strings.Fields(row[1]) {
				n, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				sizes = append(sizes, n)
			}
			got := replay(t, row[0], sizes)
			for i, level := range []string{"L1", "last level"} {
				want, err := strconv.ParseFloat(row[2+i], 64)
				if err != nil {
					t.Fatal(err)
				}
				off := float64(got[i].Misses)/want - 1
				t.Logf("%s: %d misses, cachegrind %.0f, %+.2f %%", level, got[i].Misses, want, 100*off)
				if math.Abs(off) > 0.05 {
					t.Errorf("%s misses %d times, in cachegrind %.0f: %+.1f %%", level, got[i].Misses, want, 100*off)
				}
			}
		})
	}
}

func TestOf(t *testing.T) {
	cpu := profile.CPU{Caches: []profile.Cache{
		{Level: 1, Type: "data", SizeBytes: 32 << 10, Ways: 8, LineBytes: 64},
		{Level: 2, Type: "unified", SizeBytes: 1 << 20, Ways: 8},
		{Level: 1, Type: "instruction", SizeBytes: 64 << 10, Ways: 2, LineBytes: 64},
	}}
	h, err := Of(cpu)
	if err != nil || len(h.levels) != 2 || h.levels[0].sets != 64 || h.levels[1].sets != 2048 {
		t.Errorf("%+v, %v", h, err)
	}
	cpu.Caches[0].Ways = 0
	if _, err := Of(cpu); err == nil {
		t.Error("a cache of unknown ways was simulated")
	}
}
