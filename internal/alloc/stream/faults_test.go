package stream

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// TestCUDAFaults fails each driver call of a whole session in turn: once, and so that the context is lost. Every time
// there is one clear error, and what was taken is given back.
func TestCUDAFaults(t *testing.T) {
	calls := []string{
		"cuDevicePrimaryCtxRetain", "cuMemAddressReserve", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemHostAlloc",
		"cuStreamCreate", "cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuStreamSynchronize", "cuModuleLoadDataEx",
		"cuModuleGetFunction", "cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2",
	}
	for _, call := range calls {
		for _, failure := range []string{"2", "999", "700:sticky"} {
			for _, nth := range []int{1, 2} {
				rule := fmt.Sprintf("%s:%d:%s", call, nth, failure)
				t.Run(rule, func(t *testing.T) {
					lib := standin.Build(t, standin.Options{Fail: []string{rule}})
					err := session(t, lib)
					if call == "cuStreamWaitEvent" && nth > 1 && err == nil {
						return // whether a second wait is needed is a matter of time
					}
					if once := call == "cuDevicePrimaryCtxRetain" || strings.HasPrefix(call, "cuModule") ||
						call == "cuMemAddressReserve"; once && nth > 1 {
						if err != nil {
							t.Errorf("a call that is made once failed: %v", err)
						}
					} else if err == nil {
						t.Error("the failure was swallowed")
					} else if !strings.Contains(err.Error(), call) || strings.Contains(err.Error(), "\n") {
						t.Errorf("says %q, want one line with %s", err, call)
					}
					if call == "cuDevicePrimaryCtxRetain" {
						return // there was never a context
					}
					if leaks := lib.Leaks(t); leaks != "clean" {
						t.Errorf("left behind: %s", leaks)
					}
				})
			}
		}
	}
}

// session is what a program does with a card, from opening to closing. It returns the first error and cleans up after
// any.
func session(t *testing.T, lib standin.Library) (err error) {
	d, err := cuda.Open(lib.Path)
	if err != nil {
		return err
	}
	c, err := d.Retain(0)
	if err != nil {
		return err
	}
	defer c.Release()
	mem, err := space.NewMapped(c, 8*space.DeviceGranule)
	if err != nil {
		return err
	}
	defer mem.Close()
	host, err := space.NewPinned(c, 8192)
	if err != nil {
		return err
	}
	defer host.Close()
	spare, err := space.NewPinned(c, 4096)
	if err != nil {
		return err
	}
	defer spare.Close()
	b, err := NewCUDA(c, 2, mem.Address(0), mem.Size())
	if err != nil {
		return err
	}
	defer b.Close()
	arena, err := alloc.NewArena(openArena{mem}, alloc.ArenaOptions{Policy: "bestfit"})
	if err != nil {
		return err
	}
	return transfers(NewPool(arena, b, Options{}), b, host.Bytes())
}

// openArena is a space that its arena does not close, so that session closes everything in one order.
type openArena struct{ *space.Device }

func (openArena) Close() error { return nil }

func transfers(p *Pool, b Backend, host []byte) error {
	for round := range 4 {
		rounds := 3
		if round == 0 {
			rounds = 300 // keeps the first stream busy until the second has to wait for it
		}
		for s := range uint16(2) {
			block, err := p.Alloc(alloc.Request{Size: 3 << 20, Stream: s})
			if err != nil {
				return err
			}
			r := Range{block.Offset, int64(len(host))}
			for _, w := range []Work{
				{Kind: Upload, Out: r, Host: host},
				{Kind: Compute, Out: r, In: r, Rounds: rounds},
				{Kind: Download, In: r, Host: host},
			} {
				if err := b.Submit(s, w); err != nil {
					return err
				}
			}
			if err := p.Free(block); err != nil {
				return err
			}
		}
	}
	for s := range uint16(2) {
		if err := p.Synchronize(s); err != nil {
			return err
		}
	}
	return nil
}
