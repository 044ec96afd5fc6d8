package glibc

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sizes are drawn as a program of tensors asks: mostly small objects, some large blocks, few larger than any threshold.
func size(r *rand.Rand) int64 {
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		return 1 + r.Int64N(300)
	case 4, 5:
		return 1 + r.Int64N(5000)
	case 6, 7:
		return 1 + r.Int64N(300_000)
	case 8:
		return 1 + r.Int64N(6<<20)
	}
	return 1 + r.Int64N(40<<20)
}

// steps are calls of malloc, posix_memalign and free, and how many blocks they make.
func steps(r *rand.Rand, n int) (list []string) {
	list = []string{"a 24 1"} // in the heap, wherever that is
	live := []int{0}
	count := 1
	for range n {
		if len(live) > 40 || len(live) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(live))
			list = append(list, fmt.Sprintf("f %d", live[i]))
			live = append(live[:i], live[i+1:]...)
			continue
		}
		align := []int64{1, 64, 64, 4096}[r.IntN(4)]
		list = append(list, fmt.Sprintf("a %d %d", size(r), align))
		live = append(live, count)
		count++
	}
	return list
}

// The addresses of every block are those that the C library of this machine gives it.
func TestPlacesAsTheCLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	program := filepath.Join(t.TempDir(), "steps")
	if out, err := exec.Command("cc", "-O1", "-o", program, "testdata/steps.c").CombinedOutput(); err != nil {
		t.Skipf("no C compiler with glibc: %v %.200s", err, out)
	}
	for seed := range uint64(20) {
		list := steps(rand.New(rand.NewPCG(seed, 25)), 3000)
		run := exec.Command(program)
		run.Stdin = strings.NewReader(strings.Join(list, "\n") + "\n")
		out, err := run.Output()
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(string(out))
		version, err := strconv.Atoi(strings.Split(words[len(words)-1], ".")[1])
		if err != nil || version < 26 || version > 37 {
			t.Skipf("the C library is glibc %s: want 2.26 to 2.37", words[len(words)-1])
		}
		if at, want, got := firstOff(t, list, words); at >= 0 {
			t.Fatalf("seed %d, step %d, %s: at %d, the C library has it at %d", seed, at, list[at], got, want)
		}
	}
}

// firstOff is the first step whose block lies elsewhere, -1 for none. Addresses count from the first block; those of
// mappings are the system's choice.
func firstOff(t *testing.T, list, words []string) (step int, want, got int64) {
	t.Helper()
	heap := New(0)
	var blocks []Block
	var base int64
	for i, s := range list {
		f := strings.Fields(s)
		n, _ := strconv.ParseInt(f[1], 10, 64)
		if f[0] == "f" {
			heap.Free(blocks[n])
			continue
		}
		align, _ := strconv.ParseInt(f[2], 10, 64)
		address, err := strconv.ParseInt(words[len(blocks)], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		b := heap.Alloc(n, align)
		if len(blocks) == 0 {
			base = address - b.c.at
		}
		blocks = append(blocks, b)
		if far := address-base > 1<<36 || address < base; far != (b.c.state == mapped) ||
			!far && address-base != b.c.at {
			return i, address - base, b.c.at
		}
	}
	return -1, 0, 0
}

// Chunks tile the heap, blocks lie in them apart and aligned, and what is resident covers what is live.
func TestChunksTileTheHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heap := New(0)
		live := map[int]Block{}
		var asked int64
		sizes := map[int]int64{}
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(live) > 0 && rapid.Bool().Draw(t, "free") {
				for k := range live {
					heap.Free(live[k])
					asked -= sizes[k]
					delete(live, k)
					break
				}
			} else {
				n := rapid.Int64Range(1, 1<<rapid.IntRange(1, 26).Draw(t, "bits")).Draw(t, "size")
				align := int64(1) << rapid.IntRange(0, 12).Draw(t, "align")
				live[i], sizes[i] = heap.Alloc(n, align), n
				asked += n
				if b := live[i].c; b.state == used && (b.at+2*header+base)%align != 0 || b.size < n {
					t.Fatalf("a block of %d at %d by %d has %d", n, b.at, align, b.size)
				}
			}
			if heap.Resident() < asked {
				t.Fatalf("%d resident of %d asked for", heap.Resident(), asked)
			}
		}
		at := heap.top.at + heap.top.size
		for c := heap.top; c != nil; c = c.prev {
			if at -= c.size; c.at != at || c.prev != nil && c.prev.next != c {
				t.Fatalf("a chunk of %d at %d, want at %d", c.size, c.at, at)
			}
		}
		if at != 0 {
			t.Fatalf("the heap begins at %d", at)
		}
	})
}
