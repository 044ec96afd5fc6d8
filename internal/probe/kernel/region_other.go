//go:build !linux

package kernel

// Region is memory of Go's heap here: only Linux tells what pages it gets.
type Region struct{ mapped, bytes []byte }

// Pages says what pages a Region asks for; this system does not listen.
type Pages int

const (
	OrdinaryPages Pages = iota
	BasePages
	HugePages
)

// Map takes n bytes of zeroed memory, aligned to 4 KiB.
func Map(n int, _ Pages) (*Region, error) {
	mapped := make([]byte, n+4096)
	skip := alignment(mapped, 4096)
	return &Region{mapped, mapped[skip : skip+n]}, nil
}

// Bytes is the memory.
func (r *Region) Bytes() []byte { return r.bytes }

// Populate touches all pages.
func (r *Region) Populate() { touch(r.bytes) }

// Drop does nothing here.
func (r *Region) Drop() error { return nil }

// Close leaves the memory to the collector.
func (r *Region) Close() error { return nil }
