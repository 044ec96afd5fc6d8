package alloc

import (
	"compress/gzip"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// step is one event of a recorded program: a size is an allocation, zero the free of block id.
type step struct {
	id   int
	size int64
}

// program is a recorded program and the largest sum of requested bytes live at once.
type program struct {
	name  string
	steps []step
	ids   int
	bound int64
}

// recorded reads the public recordings: the blocks live before the first event in file order, then allocations and
// completed frees; streams are ignored.
func recorded(t testing.TB) []program {
	dir := os.Getenv("VLMEM_SHARED_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "pytorch_snapshots", "*.csv.gz"))
	if len(files) == 0 {
		t.Skip("no recordings: set VLMEM_SHARED_DATA to the folder with pytorch_snapshots")
	}
	var list []program
	for _, f := range files {
		list = append(list, readProgram(t, f))
	}
	return list
}

func readProgram(t testing.TB, file string) program {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rows := csv.NewReader(z)
	rows.FieldsPerRecord = -1
	records, err := rows.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	p := program{name: strings.TrimSuffix(filepath.Base(file), ".csv.gz")}
	at := map[string]int{}
	sizes := map[int]int64{}
	var live int64
	for _, r := range records {
		switch r[0] {
		case "init_live", "alloc":
			size, err := strconv.ParseInt(r[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			at[r[1]], sizes[p.ids] = p.ids, size
			p.steps = append(p.steps, step{p.ids, size})
			p.ids++
			live += size
			p.bound = max(p.bound, live)
		case "free_completed":
			id, ok := at[r[1]]
			if !ok {
				t.Fatalf("%s frees an unknown block at %s", file, r[1])
			}
			delete(at, r[1])
			p.steps = append(p.steps, step{id: id})
			live -= sizes[id]
		}
	}
	return p
}

// replay runs the program, checks the allocator, and returns its counters and the bytes allocated.
func (p program) replay(t testing.TB, a Allocator) (Stats, int64) {
	allocated := p.run(t, a)
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	return a.Stats(), allocated
}

func (p program) run(t testing.TB, a Allocator) (allocated int64) {
	blocks := make([]Block, p.ids)
	for _, s := range p.steps {
		var err error
		if s.size == 0 {
			err = a.Free(blocks[s.id])
		} else {
			blocks[s.id], err = a.Alloc(Request{Size: s.size})
			allocated += s.size
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return allocated
}

func overhead(s Stats, bound int64) float64 {
	return 100 * (float64(s.PeakReserved)/float64(bound) - 1)
}

func TestShowRecorded(t *testing.T) {
	for _, granule := range []int64{2 << 20, 4 << 10} {
		var over, returned []float64
		for _, p := range recorded(t) {
			b, _ := New("bestfit", Options{Capacity: 64 << 30})
			bs, _ := p.replay(t, b)
			a, err := New("vlmem", Options{Capacity: 64 << 30, Granule: granule})
			if err != nil {
				t.Fatal(err)
			}
			s, n := p.replay(t, a)
			over = append(over, overhead(s, p.bound))
			returned = append(returned, 100*float64(s.Returned)/float64(n))
			t.Logf("%-40s bestfit %.2f vlmem %.3f returned %.2f", p.name, overhead(bs, p.bound), overhead(s, p.bound), returned[len(returned)-1])
		}
		slices.Sort(over)
		slices.Sort(returned)
		t.Logf("granule %d: over %.3f returned %.2f", granule, (over[3]+over[4])/2, (returned[3]+returned[4])/2)
	}
}
