package alloc

import (
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// step is one event of a program: a size is an allocation, zero the free of block id.
type step struct {
	id   int
	size int64
	pool string
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
	files, _ := filepath.Glob(filepath.Join(dataDir(), "pytorch_snapshots", "*.csv.gz"))
	if len(files) == 0 {
		t.Skip("no recordings: set VLMEM_SHARED_DATA to the folder with pytorch_snapshots")
	}
	var list []program
	for _, f := range files {
		list = append(list, readProgram(t, f))
	}
	return list
}

func dataDir() string {
	return cmp.Or(os.Getenv("VLMEM_SHARED_DATA"), "../../../shared/data")
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
			p.steps = append(p.steps, step{id: p.ids, size: size})
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
			blocks[s.id], err = a.Alloc(Request{Size: s.size, Pool: s.pool})
			allocated += s.size
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return allocated
}

// overhead is the peak reserved over the bound, in per cent.
func overhead(s Stats, bound int64) float64 {
	return 100 * (float64(s.PeakReserved)/float64(bound) - 1)
}

// published are the overheads in per cent of simple policies on a recording, computed by others.
type published struct{ bestfit, buddyWhole, buddy float64 }

func readPublished(t *testing.T) map[string]published {
	text, err := os.ReadFile(filepath.Join(dataDir(), "pytorch_snapshots", "expected_overheads.txt"))
	if err != nil {
		t.Skip(err)
	}
	line := regexp.MustCompile(`(?m)^(\S+) .* bestfit \+([\d.]+)% .* buddy \+([\d.]+)%.* buddytrim \+([\d.]+)%`)
	list := map[string]published{}
	for _, m := range line.FindAllStringSubmatch(string(text), -1) {
		var v [3]float64
		for i := range v {
			if v[i], err = strconv.ParseFloat(m[i+2], 64); err != nil {
				t.Fatal(err)
			}
		}
		list[m[1]] = published{v[0], v[1], v[2]}
	}
	return list
}

func median(list []float64) float64 {
	slices.Sort(list)
	n := len(list)
	return (list[(n-1)/2] + list[n/2]) / 2
}

// TestRecordedOverheads holds the policies against what others computed, and vlmem against best fit.
func TestRecordedOverheads(t *testing.T) {
	want := readPublished(t)
	var over, overPages, returned []float64
	better := 0
	for _, p := range recorded(t) {
		run := func(name string, granule int64) (over, back float64) {
			a, err := New(name, Options{Capacity: 256 << 30, Granule: granule})
			if err != nil {
				t.Fatal(err)
			}
			s, allocated := p.replay(t, a)
			return overhead(s, p.bound), 100 * float64(s.Returned) / float64(allocated)
		}
		bestfit, _ := run("bestfit", 0)
		whole, _ := run("buddy-whole", 0)
		trimmed, _ := run("buddy", 0)
		got := published{bestfit, whole, trimmed}
		if w, ok := want[p.name]; ok && (math.Abs(got.bestfit-w.bestfit) > .1 || math.Abs(got.buddyWhole-w.buddyWhole) > .1 ||
			math.Abs(got.buddy-w.buddy) > .1) {
			t.Errorf("%s: %+v, published %+v", p.name, got, w)
		}
		vlmem, back := run("vlmem", space.DeviceGranule)
		pages, _ := run("vlmem", space.HostGranule)
		t.Logf("%-36s bestfit %5.2f  buddy %5.2f  vlmem %5.3f, %5.2f returned; in pages %5.3f", p.name, bestfit, trimmed,
			vlmem, back, pages)
		if vlmem > bestfit+.25 {
			t.Errorf("%s: vlmem %.2f %% over the bound, best fit %.2f", p.name, vlmem, bestfit)
		}
		if vlmem < bestfit {
			better++
		}
		if pages > .1 {
			t.Errorf("%s: vlmem %.2f %% over the bound in pages", p.name, pages)
		}
		over, overPages, returned = append(over, vlmem), append(overPages, pages), append(returned, back)
	}
	t.Logf("median over the bound %.3f, in pages %.3f; returned %.2f; better than best fit on %d of %d", median(over),
		median(overPages), median(returned), better, len(over))
	if median(over) > .5 || median(returned) > 2 || 2*better <= len(over) {
		t.Error("vlmem keeps too much, gives back too much or is not better than best fit on most")
	}
}
