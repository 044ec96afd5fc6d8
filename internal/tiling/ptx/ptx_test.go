package ptx

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/units"
)

var all = flag.Bool("all", false,
	"compile every module and run every kernel on the CPU, not a few: takes a minute or two")

func TestModules(t *testing.T) {
	seen := map[string]Declared{}
	for _, name := range Modules() {
		text, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		h := Parse(text)
		if h.Version != "6.0" || h.Target != "sm_61" || len(h.Entries) == 0 {
			t.Errorf("%s: version %q, target %q, %d entries", name, h.Version, h.Target, len(h.Entries))
		}
		if strings.Contains(text, ".local") || strings.Contains(text, ".extern") {
			t.Errorf("%s keeps arrays in local memory or lacks a function", name)
		}
		for _, e := range h.Entries {
			seen[e.Name] = e
			if e.SharedBytes > 48<<10 || ModuleOf(e.Name) != name {
				t.Errorf("%s in %s takes %d B of shared memory", e.Name, name, e.SharedBytes)
			}
		}
	}
	attentions, err := Attentions(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range attentions {
		want := Declared{k.Entry, k.Tile.SharedBytes(k.HeadDim), k.Tile.Threads}
		if seen[k.Entry] != want {
			t.Errorf("%s: the PTX declares %+v, the model %+v", k.Entry, seen[k.Entry], want)
		}
		delete(seen, k.Entry)
	}
	products, err := Products()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range products {
		if want := (Declared{k.Entry, k.Tile.SharedBytes(), k.Tile.Threads}); seen[k.Entry] != want {
			t.Errorf("%s: the PTX declares %+v, the model %+v", k.Entry, seen[k.Entry], want)
		}
		delete(seen, k.Entry)
	}
	if _, ok := seen[Merge]; !ok || len(seen) != 1 {
		t.Errorf("entry points that are in no list: %v", seen)
	}
	if _, err := Source("none"); err == nil {
		t.Error("a module that is not there was read")
	}
	if dims, err := HeadDims(); err != nil || !slices.Equal(dims, []int{64, 72, 80, 96, 128, 256, 512, 576}) {
		t.Errorf("head dimensions %v, %v", dims, err)
	}
}

// What the assembler says each kernel takes lets it run, and the matrix products are those that the choice picks from.
func TestKernelsRunOnTheirCard(t *testing.T) {
	card := profile.GPU{ComputeCapability: "6.1", MaxThreadsPerBlock: 1024, SharedMemoryPerBlockBytes: 48 << 10,
		RegistersPerBlock: 65536}
	check := func(entry string, threads, registers int, shared units.Bytes) {
		if _, err := tiling.OccupancyOf(card, tiling.Launch{Threads: threads, Registers: registers,
			SharedBytes: shared}); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
	}
	attentions, err := Attentions(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range attentions {
		check(k.Entry, k.Tile.Threads, k.Registers, k.Tile.SharedBytes(k.HeadDim))
	}
	products, err := Products()
	if err != nil {
		t.Fatal(err)
	}
	var tiles []tiling.MatMulTile
	for _, k := range products {
		check(k.Entry, k.Tile.Threads, k.Registers, k.Tile.SharedBytes())
		tiles = append(tiles, k.Tile)
	}
	for _, tile := range tiling.MatMulTiles() {
		if !slices.Contains(tiles, tile) {
			t.Errorf("%+v is not compiled", tile)
		}
	}
	if len(attentions)+len(products) < 60 {
		t.Errorf("%d kernels", len(attentions)+len(products))
	}
}

// The committed PTX is what the sources compile to. Only clang 14 writes the same text; others must at least write the
// same entry points with the same shared memory.
func TestSourcesCompileToTheCommittedPTX(t *testing.T) {
	clang := os.Getenv("CLANG")
	if clang == "" {
		clang = "clang"
	}
	version, err := exec.Command(clang, "--version").Output()
	if err != nil {
		t.Skip("clang is not installed: the committed PTX is taken as it is")
	}
	if testing.Short() {
		t.Skip("compiles a module")
	}
	folder, modules := t.TempDir(), []string{"attention_96"}
	if *all {
		modules = Modules()
	}
	if out, err := exec.Command("sh", append([]string{"src/generate.sh", folder},
		modules...)...).CombinedOutput(); err != nil {
		t.Skipf("this clang does not compile for cards: %v\n%s", err, out)
	}
	same := strings.Contains(string(version), "version 14.")
	for _, name := range modules {
		out, err := exec.Command("gzip", "-dc", filepath.Join(folder, name+".ptx.gz")).Output()
		if err != nil {
			t.Fatal(err)
		}
		committed, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		if same && string(out) != committed {
			t.Errorf("%s is not what the sources compile to: run go generate", name)
		} else if got, want := Parse(string(out)), Parse(committed); !slices.Equal(got.Entries, want.Entries) {
			t.Errorf("%s compiles to entries %v, committed are %v", name, got.Entries, want.Entries)
		}
	}
}

// someTiles have between them every way through the kernels: rows exchanged, padded and left alone in shared memory, V
// read 16 bytes and 4 bytes at a time, one and many slices, 8, 16 and 32 lanes, both types of K and V.
const someTiles = `MERGE(merge_splits)
ATTENTION(64, 64, 64, 64, 128, 8, fp16)
ATTENTION(72, 32, 32, 72, 64, 8, fp16)
ATTENTION(72, 64, 32, 24, 64, 8, fp32)
ATTENTION(80, 4, 16, 16, 64, 16, fp16)
ATTENTION(96, 2, 32, 32, 64, 32, fp16)
ATTENTION(128, 32, 64, 32, 64, 8, fp32)
ATTENTION(576, 16, 32, 64, 128, 16, fp16)
PRODUCT(32, 32, 8, 4, 4)
PRODUCT(64, 32, 16, 8, 4)
PRODUCT(128, 128, 8, 8, 8)
`

// onCPU builds the kernels that a tiles file lists for the CPU.
func onCPU(t *testing.T, tiles string) string {
	compiler := ""
	for _, name := range []string{"g++", "clang++", "c++"} {
		if path, err := exec.LookPath(name); err == nil {
			compiler = path
			break
		}
	}
	if compiler == "" {
		t.Skip("no C++ compiler is installed")
	}
	program := filepath.Join(t.TempDir(), "kernels")
	cmd := exec.Command(compiler, "-std=c++14", "-O1", "-Wno-unknown-pragmas", "-DTILES=\""+tiles+"\"", "-o", program,
		"src/kernels.cc")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// numbers continues the kernels' own generator; see shim.h.
type numbers uint32

func (s *numbers) list(n int) []float64 {
	list := make([]float64, n)
	for i := range list {
		*s = *s*1664525 + 1013904223
		list[i] = float64(int(uint32(*s)>>16)%513-256) / 256
	}
	return list
}

func runKernel(t *testing.T, program, entry string, arguments ...int) []float64 {
	args := []string{entry, "1"}
	for _, n := range arguments {
		args = append(args, fmt.Sprint(n))
	}
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v", entry, arguments, err)
	}
	list := make([]float64, len(out)/4)
	for i := range list {
		list[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(out[4*i:])))
	}
	return list
}

func compare(t *testing.T, what string, got, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if d := math.Abs(got[i] - want[i]); !(d <= 1e-4*max(1, math.Abs(want[i]))) {
			t.Errorf("%s: value %d is %g, want %g", what, i, got[i], want[i])
			return
		}
	}
}

func attended(heads, rows, keys, d int) []float64 {
	s := numbers(1)
	q, k, v := s.list(heads*rows*d), s.list(heads*keys*d), s.list(heads*keys*d)
	o := make([]float64, heads*rows*d)
	for at := range heads * rows {
		base, sum := at/rows*keys*d, 0.0
		for t := range keys {
			x := 0.0
			for p := range d {
				x += q[at*d+p] * k[base+t*d+p]
			}
			w := math.Exp(x / math.Sqrt(float64(d)))
			sum += w
			for p := range d {
				o[at*d+p] += w * v[base+t*d+p]
			}
		}
		for p := range d {
			o[at*d+p] /= sum
		}
	}
	return o
}

func multiplied(m, n, k int) []float64 {
	s := numbers(1)
	a, b, c := s.list(m*k), s.list(k*n), make([]float64, m*n)
	for i := range c {
		for p := range k {
			c[i] += a[i/n*k+p] * b[p*n+i%n]
		}
	}
	return c
}

// tileFiles are the lists of tiles to compile: some, or with -all every one.
func tileFiles(t *testing.T) (files []string) {
	t.Helper()
	if !*all {
		path := filepath.Join(t.TempDir(), "some.h")
		if err := os.WriteFile(path, []byte(someTiles), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{path}
	}
	matches, err := filepath.Glob("src/tiles/*.h")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range matches {
		files = append(files, strings.TrimPrefix(m, "src/"))
	}
	return files
}

func TestKernelsAgreeWithTheReference(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the kernels for the CPU")
	}
	files := tileFiles(t)
	attentions, err := Attentions(0)
	if err != nil {
		t.Fatal(err)
	}
	products, err := Products()
	if err != nil {
		t.Fatal(err)
	}
	for _, tiles := range files {
		path := tiles
		if !filepath.IsAbs(path) {
			path = filepath.Join("src", tiles)
		}
		listed, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		program := onCPU(t, tiles)
		for _, k := range attentions {
			line := fmt.Sprintf("ATTENTION(%d, %d, %d, %d, %d, %d, %s)\n", k.HeadDim, k.Tile.BlockQ, k.Tile.BlockKV,
				k.Tile.Slice, k.Tile.Threads, k.Tile.Lanes, k.KV)
			if !strings.Contains(string(listed), line) {
				continue
			}
			rows, keys := k.Tile.BlockQ+3, 2*k.Tile.BlockKV+5
			compare(t, k.Entry, runKernel(t, program, k.Entry, rows, keys, 2, 1), attended(2, rows, keys, k.HeadDim))
			compare(t, k.Entry+" in 3 parts", runKernel(t, program, k.Entry, 3, keys, 1, 3), attended(1, 3, keys, k.HeadDim))
		}
		for _, k := range products {
			line := fmt.Sprintf("PRODUCT(%d, %d, %d, %d, %d)\n", k.Tile.BlockM, k.Tile.BlockN, k.Tile.BlockK, k.Tile.ThreadM,
				k.Tile.ThreadN)
			if !strings.Contains(string(listed), line) {
				continue
			}
			for _, s := range [][3]int{{k.Tile.BlockM + 5, k.Tile.BlockN + 4, 2*k.Tile.BlockK + 4}, {3, 7, 5},
				{k.Tile.BlockM, k.Tile.BlockN, k.Tile.BlockK}} {
				compare(t, fmt.Sprint(k.Entry, s), runKernel(t, program, k.Entry, s[0], s[1], s[2]), multiplied(s[0], s[1], s[2]))
			}
		}
	}
}
