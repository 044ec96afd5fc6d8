package kernel

import (
	"math"
	"slices"
	"testing"
	"unsafe"
)

// implementations are all that this CPU can run; the portable one is the reference.
func implementations() []streams {
	all := []streams{portable}
	if stream.name != portable.name {
		all = append(all, stream)
	}
	return append(all, slower()...)
}

// TestStreamsAgree runs every implementation over every number of blocks up to 40 and compares with plain loops.
func TestStreamsAgree(t *testing.T) {
	for _, s := range implementations() {
		for blocks := range 41 {
			n := blocks * Block
			region, err := Map(4*max(n, Block)*3+64, OrdinaryPages)
			if err != nil {
				t.Fatal(err)
			}
			all := region.Floats()
			a, b, dst := all[:n], all[n:2*n], all[2*n:3*n+4]
			sum := 0.0
			for i := range a {
				a[i], b[i] = float32(i%7+1), float32(i%5)
				sum += float64(a[i])
			}
			if got := s.load(a); s.name != portable.name && partial(a, got) == false {
				t.Errorf("%s: load of %d: %v is no lane of the sum %v", s.name, n, got, sum)
			}
			s.copy(dst[:n], a)
			if !slices.Equal(dst[:n], a) {
				t.Errorf("%s: copy of %d", s.name, n)
			}
			s.triad(dst[:n], a, b, 3)
			for i := range n {
				if dst[i] != a[i]+3*b[i] {
					t.Fatalf("%s: triad of %d at %d: %v, want %v", s.name, n, i, dst[i], a[i]+3*b[i])
				}
			}
			if dst[n] != 0 || dst[n+3] != 0 {
				t.Errorf("%s: %d blocks wrote beyond their end", s.name, blocks)
			}
			if err := region.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// partial is whether got is the sum of one lane: each implementation keeps lanes of 4, 8 or 16 floats and returns the
// first.
func partial(a []float32, got float32) bool {
	for _, lanes := range []int{1, 4, 8, 16} {
		sum := 0.0
		for i := 0; i < len(a); i += lanes {
			sum += float64(a[i])
		}
		if math.Abs(sum-float64(got)) < 0.5 {
			return true
		}
	}
	return false
}

func TestLoadReadsAll(t *testing.T) {
	for _, s := range implementations() {
		a := make([]float32, 4*Block)
		for i := range a {
			a[i] = 1
		}
		before := s.load(a)
		for _, i := range []int{0, Block - 16, Block, 4*Block - 16} { // the first lane of its vector in every implementation
			a[i] = 100
			if s.load(a) == before {
				t.Errorf("%s: load does not see element %d", s.name, i)
			}
			a[i] = 1
		}
	}
}

func TestMultiplyAddCounts(t *testing.T) {
	for _, s := range implementations() {
		one, ten := s.multiplyAdd(1), s.multiplyAdd(10)
		if one <= 0 || ten != 10*one || s.multiplyAdd(0) != 0 {
			t.Errorf("%s: %d operations a round, %d in ten", s.name, one, ten)
		}
	}
}

func TestWalk(t *testing.T) {
	lines := make([]Line, 48)
	for i := range lines {
		lines[i].Next = &lines[(i+1)%len(lines)]
	}
	for steps, want := range map[int]int{0: 0, 1: 16, 16: 16, 17: 32, 48: 0, 64: 16} {
		if got := Walk(&lines[0], steps); got != &lines[want] {
			t.Errorf("%d steps end elsewhere than at line %d", steps, want)
		}
	}
	if unsafe.Sizeof(Line{}) != LineBytes {
		t.Errorf("a line takes %d bytes", unsafe.Sizeof(Line{}))
	}
}

func TestRegion(t *testing.T) {
	for _, pages := range []Pages{OrdinaryPages, BasePages, HugePages} {
		r, err := Map(3<<20+4096, pages)
		if err != nil {
			t.Fatal(err)
		}
		b := r.Bytes()
		r.Populate()
		if len(b) != 3<<20+4096 || len(r.Lines()) != len(b)/64 || len(r.Floats()) != len(b)/4 || alignment(b, 4096) != 0 {
			t.Errorf("pages %d: %d bytes, aligned %v", pages, len(b), alignment(b, 4096) == 0)
		}
		b[0], b[len(b)-1] = 1, 1
		if err := r.Drop(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkStreams(b *testing.B) {
	region, err := Map(48<<10, OrdinaryPages)
	if err != nil {
		b.Fatal(err)
	}
	defer region.Close()
	f := region.Floats()
	n := len(f) / 3 / Block * Block
	x, y, z := f[:n], f[n:2*n], f[2*n:3*n]
	for _, s := range implementations() {
		for name, run := range map[string]func(){
			"load": func() { keep(s.load(x)) }, "copy": func() { s.copy(y, x) }, "triad": func() { s.triad(z, x, y, 3) },
		} {
			arrays := map[string]int{"load": 1, "copy": 2, "triad": 3}[name]
			b.Run("kernel="+name+"/isa="+s.name, func(b *testing.B) {
				b.SetBytes(int64(4 * n * arrays))
				for b.Loop() {
					run()
				}
			})
		}
	}
}
