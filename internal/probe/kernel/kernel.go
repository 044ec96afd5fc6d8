// Package kernel is the code that package probe times: walks along chains of lines, streams over memory, arithmetic,
// and the memory they run on. It is the only place of probe with assembly, mmap and unsafe.
//
// A walk follows pointers, one per cache line, so that each load waits for the one before: the time per step is the
// latency of wherever the lines lie. Streams do as many independent loads and stores as the machine takes. On amd64
// they are written in Go assembly with AVX-512 or AVX2, chosen by what the CPU and the kernel allow, so they need no
// cgo; elsewhere and on older CPUs portable Go does the same work.
//
//	file                  what
//	kernel.go             the API, the portable streams
//	stream_amd64.{go,s}   AVX-512 and AVX2 streams, CPUID
//	stream_other.go       nothing faster than portable
//	region_linux.go       memory by mmap, with or without huge pages
//	region_other.go       memory from the Go heap
package kernel

import "unsafe"

// LineBytes is the distance between the nodes of a chain: the line of all x86 and most ARM machines. On a machine with
// longer lines a working set takes fewer of them, and sizes below are still right because every line is touched.
const LineBytes = 64

// A Line is one node of a chain, filling a cache line.
type Line struct {
	Next *Line
	_    [LineBytes - unsafe.Sizeof(uintptr(0))]byte
}

// Part is n bytes of r from an offset on. They are r's: only r is closed.
func (r *Region) Part(from, n int) *Region { return &Region{bytes: r.bytes[from:][:n:n]} }

// Lines views memory as lines. Its length is rounded down to whole ones. The memory must not be the Go heap's where a
// garbage collector would have to find the pointers; a Region's lines point only into the Region, which outlives them.
func (r *Region) Lines() []Line {
	b := r.Bytes()
	return unsafe.Slice((*Line)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/LineBytes)
}

// Floats views memory as float32.
func (r *Region) Floats() []float32 {
	b := r.Bytes()
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// Walk takes steps, rounded up to a multiple of 16, along a chain and returns where it ends.
func Walk(at *Line, steps int) *Line {
	for ; steps > 0; steps -= 16 {
		at = at.Next.Next.Next.Next
		at = at.Next.Next.Next.Next
		at = at.Next.Next.Next.Next
		at = at.Next.Next.Next.Next
	}
	return at
}

// Visit reads lines in an order by loads that do not wait for each other. The result depends on all.
//
//go:noinline
func Visit(lines []Line, order []int32) (mixed uintptr) {
	for _, i := range order {
		mixed ^= uintptr(unsafe.Pointer(lines[i].Next))
	}
	return mixed
}

// Block is what the streams take at a time; lengths are rounded down to whole blocks.
const Block = 512 / 4 // float32

// Load reads all of a. The result depends on it, so that no compiler can leave it out.
func Load(a []float32) float32 { return stream.load(a) }

// Copy writes a to dst. The shorter length counts.
func Copy(dst, a []float32) {
	n := min(len(dst), len(a))
	stream.copy(dst[:n], a[:n])
}

// Triad writes a + s·b to dst. The shortest length counts.
func Triad(dst, a, b []float32, s float32) {
	n := min(len(dst), len(a), len(b))
	stream.triad(dst[:n], a[:n], b[:n], s)
}

// MultiplyAdd does rounds of multiply-adds on independent registers and returns how many floating-point operations it
// did, a multiply-add counting two.
func MultiplyAdd(rounds int) (operations int) { return stream.multiplyAdd(rounds) }

// Streams names the code behind Load, Copy, Triad and MultiplyAdd: avx512, avx2 or portable.
func Streams() string { return stream.name }

// streams is one implementation. All slices of a call have the same length.
type streams struct {
	name        string
	load        func(a []float32) float32
	copy        func(dst, a []float32)
	triad       func(dst, a, b []float32, s float32)
	multiplyAdd func(rounds int) int
}

var stream = fastest()

var portable = streams{"portable", loadPortable, copyPortable, triadPortable, multiplyAddPortable}

// loadPortable sums 64-bit words: a float32 at a time, Go's compiler would not reach the memory's rate.
func loadPortable(a []float32) float32 {
	w := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(a))), len(a)/2)
	var s0, s1, s2, s3 uint64
	for ; len(w) >= 16; w = w[16:] {
		x := (*[16]uint64)(w)
		s0 += x[0] + x[4] + x[8] + x[12]
		s1 += x[1] + x[5] + x[9] + x[13]
		s2 += x[2] + x[6] + x[10] + x[14]
		s3 += x[3] + x[7] + x[11] + x[15]
	}
	return float32(s0 ^ s1 ^ s2 ^ s3)
}

func copyPortable(dst, a []float32) { copy(dst, a) }

func triadPortable(dst, a, b []float32, s float32) {
	for ; len(dst) >= 8; dst, a, b = dst[8:], a[8:], b[8:] {
		d, x, y := (*[8]float32)(dst), (*[8]float32)(a), (*[8]float32)(b)
		for i := range d {
			d[i] = x[i] + s*y[i]
		}
	}
}

func multiplyAddPortable(rounds int) int {
	var a, b, c, d, e, f, g, h float32 = 1, 2, 3, 4, 5, 6, 7, 8
	for range rounds {
		a, b, c, d = a*0.5+1, b*0.5+1, c*0.5+1, d*0.5+1
		e, f, g, h = e*0.5+1, f*0.5+1, g*0.5+1, h*0.5+1
	}
	keep(a + b + c + d + e + f + g + h)
	return rounds * 16
}

// keep makes a result matter.
//
//go:noinline
func keep(float32) {}

const basePage = 4096

// touch writes to every base page.
func touch(b []byte) {
	for i := 0; i < len(b); i += basePage {
		b[i] = 1
	}
}

// alignment is how far into b the first address divisible by boundary lies.
func alignment(b []byte, boundary uintptr) int {
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return int(-at & (boundary - 1))
}
