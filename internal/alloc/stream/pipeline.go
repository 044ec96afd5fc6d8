package stream

import (
	"fmt"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Pipeline is the front end of a vision model: each image goes to the device, is computed on, and its features come
// back.
//
//	serial      copy 1 │ compute 1 │ copy 2 │ compute 2 │ …            n·(c+k)
//	overlapped  copy 1 │ copy 2    │ copy 3    │ …
//	                   │ compute 1 │ compute 2 │ compute 3             c + n·max(c,k) nearly
//
// Copies run on stream 0, computing and the way back on stream 1. The memory of an image is asked for when its copy is
// queued and freed when its computing is, so how many images are in flight is the pool's doing: with Options.Ahead of
// an image or more it takes a second buffer, with 0 it waits for the first.
type Pipeline struct {
	Images   int
	Bytes    int64 // of one image, whole float32s; its features are the first eighth of it
	Computed int64 // bytes of it that are computed on
	Rounds   int   // of Compute
	// Host memory to copy from and to, used in turn; none for the simulation.
	Pixels, Features [][]byte
}

const featureShare = 8

// Serial finishes each image before it begins the next, on one stream.
func (p Pipeline) Serial(b Backend, pool *Pool) (time.Duration, error) {
	begun := b.Elapsed()
	for i := range p.Images {
		block, err := p.image(b, pool, i, 0, 0)
		if err != nil {
			return 0, err
		}
		if err := pool.Synchronize(0); err != nil {
			return 0, err
		}
		if err := pool.Free(block); err != nil {
			return 0, err
		}
	}
	return b.Elapsed() - begun, nil
}

// inFlight bounds how far the program runs ahead of the device, in images: it must not fill the host's queues.
const inFlight = 4

// Overlapped copies image i+1 while image i is computed. The backend needs two streams.
func (p Pipeline) Overlapped(b Backend, pool *Pool) (time.Duration, error) {
	begun := b.Elapsed()
	for i := range p.Images {
		block, err := p.image(b, pool, i, 0, 1)
		if err != nil {
			return 0, err
		}
		if err := pool.Free(block); err != nil {
			return 0, err
		}
		if i%inFlight == inFlight-1 {
			// The copies so far are done; the computing of the last of them need not be.
			if err := b.Synchronize(0); err != nil {
				return 0, err
			}
		}
	}
	for s := range uint16(2) {
		if err := pool.Synchronize(s); err != nil {
			return 0, err
		}
	}
	return b.Elapsed() - begun, nil
}

// image queues one image, copied on one stream and computed on another, and returns its memory.
func (p Pipeline) image(b Backend, pool *Pool, i int, copies, computes uint16) (alloc.Block, error) {
	block, err := pool.Alloc(alloc.Request{Size: p.Bytes, Align: 256, Stream: copies})
	if err != nil {
		return alloc.Block{}, fmt.Errorf("image %d: %w", i, err)
	}
	pixels, computed := Range{block.Offset, p.Bytes}, Range{block.Offset, p.Computed}
	features := Range{block.Offset, p.Bytes / featureShare / 4 * 4}
	if err := b.Submit(copies, Work{Kind: Upload, Out: pixels, Host: turn(p.Pixels, i)}); err != nil {
		return alloc.Block{}, err
	}
	if computes != copies {
		e, err := b.Record(copies)
		if err == nil {
			err = pool.Use(block, computes)
		}
		if err == nil {
			err = b.Wait(computes, e)
		}
		if err != nil {
			return alloc.Block{}, err
		}
	}
	if err := b.Submit(computes, Work{Kind: Compute, Out: computed, In: computed, Rounds: p.Rounds}); err != nil {
		return alloc.Block{}, err
	}
	return block, b.Submit(computes, Work{Kind: Download, In: features, Host: turn(p.Features, i)})
}

// turn is buffer i of those used in turn.
func turn(buffers [][]byte, i int) []byte {
	if len(buffers) == 0 {
		return nil
	}
	return buffers[i%len(buffers)]
}
