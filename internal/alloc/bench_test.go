package alloc

import (
	"math/rand/v2"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

func bare(size int64) (space.Space, error) { return space.NewBare(size, space.DeviceGranule) }

func benchPool(b *testing.B) *Pool {
	p, err := NewPool("general", Config{Policy: "vlmem", Max: 8 << 30}, bare)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func pair(b *testing.B, a Allocator, size int64) {
	block, err := a.Alloc(Request{Size: size})
	if err == nil {
		err = a.Free(block)
	}
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkCachedPair is an allocation and a free of a size that the caches hold. Run it with -cpu 1,2: the second
// figure is for two goroutines, each doing half of the pairs.
func BenchmarkCachedPair(b *testing.B) {
	p := benchPool(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			pair(b, p, 4096)
		}
	})
}

// BenchmarkSharedPair is the same above the size that caches keep, so that it reaches the policy under the pool's lock.
func BenchmarkSharedPair(b *testing.B) {
	p := benchPool(b)
	b.ReportAllocs()
	for b.Loop() {
		pair(b, p, 3<<20)
	}
}

// BenchmarkPlace frees one of 10^5 live blocks and places another, of sizes between 512 bytes and 1 MiB, even in their
// logarithm; buddies deal in pages, best fit and vlmem in 512 bytes. Two operations are one iteration; ns/operation is
// what one takes.
func BenchmarkPlace(b *testing.B) {
	const live = 100_000
	for _, name := range []string{"bestfit", "buddy", "buddy-lazy", "vlmem"} {
		b.Run(name, func(b *testing.B) {
			p, err := NewPolicy(name, 1<<44, PolicyOptions{})
			if err != nil {
				b.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			size := func() int64 { return int64(512<<r.IntN(11)) + r.Int64N(512<<10)>>r.IntN(11) }
			blocks := make([]Block, live)
			for i := range blocks {
				blocks[i], _ = p.Place(size(), 1)
			}
			churn := func() {
				i := r.IntN(live)
				if p.Remove(blocks[i]) != nil {
					b.Fatal("block is lost")
				}
				blocks[i], _ = p.Place(size(), 1)
			}
			for range 3 * live {
				churn()
			}
			for b.Loop() {
				churn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(2*b.N), "ns/operation")
		})
	}
}

// BenchmarkReplay runs recorded programs over bare addresses.
func BenchmarkReplay(b *testing.B) {
	for _, name := range []string{"bestfit", "buddy", "vlmem"} {
		b.Run(name, func(b *testing.B) {
			list := recorded(b)
			events := 0
			for b.Loop() {
				for _, p := range list {
					a, err := New(name, Options{Capacity: 64 << 30})
					if err != nil {
						b.Fatal(err)
					}
					p.run(b, a)
					events += len(p.steps)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}
