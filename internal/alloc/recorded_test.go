package alloc

import (
	"compress/gzip"
	"encoding/csv"
	"os"
	"path/filepath"
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

// replay runs the program and returns the allocator's counters and the bytes allocated.
func (p program) replay(t testing.TB, a Allocator) (Stats, int64) {
	blocks := make([]Block, p.ids)
	var allocated int64
	for _, s := range p.steps {
		if s.size == 0 {
			if err := a.Free(blocks[s.id]); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b, err := a.Alloc(Request{Size: s.size})
		if err != nil {
			t.Fatal(err)
		}
		blocks[s.id] = b
		allocated += s.size
	}
	if err := a.Check(); err != nil {
		t.Fatal(err)
	}
	return a.Stats(), allocated
}

func overhead(s Stats, bound int64) float64 {
	return 100 * (float64(s.PeakReserved)/float64(bound) - 1)
}

func TestShowRecorded(t *testing.T) {
	for _, p := range recorded(t) {
		line := p.name
		for _, name := range []string{"bestfit", "buddy", "buddy-lazy", "buddy-whole", "vlmem"} {
			a, err := New(name, Options{Capacity: 64 << 30})
			if err != nil {
				t.Fatal(err)
			}
			s, _ := p.replay(t, a)
			line += "  " + name + " " + strconv.FormatFloat(overhead(s, p.bound), 'f', 2, 64)
		}
		t.Log(line)
	}
}
