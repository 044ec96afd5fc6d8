// Package nvml reads how full NVIDIA's cards are, through the management library of their driver, by dlopen.
//
// It is the library under nvidia-smi, which tells the same as a process of its own, started anew at each look. No
// context is made on a card. A divided card (MIG) has parts with memory of their own; its own memory is then of use to
// nobody.
//
// A driver that hangs would hang whoever calls it, and no thread can be taken back from a library. So Read asks in a
// goroutine of its own and gives up on it when its context ends; while one is outstanding, no other is started.
// Without cgo, or without the library, Open answers cuda.ErrUnavailable, and the caller takes nvidia-smi.
//
// Names, numbers and layouts follow nvml.h of CUDA 12.6.
package nvml

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/vlmem/vlmem/internal/cuda"
)

// DefaultLibrary is the driver's, of which no version but 1 is known.
const DefaultLibrary = "libnvidia-ml.so.1"

// Reader asks one library. It is for one goroutine.
type Reader struct {
	lib *library
	out chan answer // of an ask that was given up on; nil where none is outstanding
}

type answer struct {
	smi  cuda.SMI
	used map[int]int64
	err  error
}

// Open loads and starts the library at path, "" for the first that the loader or one of the usual folders has.
func Open(path string) (*Reader, error) {
	paths := []string{path}
	if path == "" {
		paths[0] = DefaultLibrary
		for _, folder := range cuda.LibraryFolders {
			paths = append(paths, filepath.Join(folder, DefaultLibrary))
		}
	}
	var first error
	for _, path := range paths {
		lib, err := open(path)
		if err == nil {
			return &Reader{lib: lib}, nil
		}
		first = cmp.Or(first, err)
	}
	return nil, first
}

// Read is what the library says of its cards, or an error where it does not answer before ctx ends.
func (r *Reader) Read(ctx context.Context) (cuda.SMI, error) {
	a := r.ask(ctx, func() (a answer) { a.smi, a.err = r.lib.read(); return a })
	return a.smi, a.err
}

// Processes are the bytes that processes hold on all cards, by their numbers. A container that numbers its processes
// itself sees numbers of others there. A reader is asked for these or for cards, not for both.
func (r *Reader) Processes(ctx context.Context) (map[int]int64, error) {
	a := r.ask(ctx, func() (a answer) { a.used, a.err = r.lib.processes(); return a })
	return a.used, a.err
}

// ask asks in a goroutine, unless the last ask is still without an answer, which is awaited then.
func (r *Reader) ask(ctx context.Context, question func() answer) answer {
	if r.out == nil {
		out := make(chan answer, 1)
		r.out = out
		go func() { out <- question() }()
	}
	select {
	case a := <-r.out:
		r.out = nil
		return a
	case <-ctx.Done():
		return answer{err: fmt.Errorf("asking NVML: no answer in time: %w", context.Cause(ctx))}
	}
}

// Close stops the library, unless it never answered.
func (r *Reader) Close() error {
	if r.out != nil {
		return nil
	}
	return r.lib.close()
}

// The results of calls that mean something of their own; the others are failures.
const (
	success      = 0
	notSupported = 3
	noPermission = 4
	notFound     = 6
	noRoom       = 7  // there are more than were asked for
	notExported  = -1 // the library has no such function
	migIsOn      = 1
	mostParts    = 64 // of a card; there are 7 of today's

	mostProcesses = 256       // of a card, of whom those are taken
	unknownUse    = 1<<64 - 1 // what Windows answers for each
)

// memory is one card's or part's, as the library answered.
type memory struct {
	name, uuid, bus string
	total, free     int64
	code            int // of the question for memory
	message         string
}

// sizes are the memory's, nil where there is none to tell, and why it failed to be read. Integrated cards answer that
// it is not supported: their memory is the host's.
func (m memory) sizes() (total, free *int64, unread string) {
	switch m.code {
	case success:
		return &m.total, &m.free, ""
	case notSupported, notExported:
		return nil, nil, ""
	case noPermission:
		return nil, nil, "Insufficient Permissions"
	}
	return nil, nil, m.message
}

// device is a card with its parts, as nvidia-smi's document has them.
func device(card memory, parts []memory) cuda.SMIDevice {
	d := cuda.SMIDevice{Name: card.name, UUID: card.uuid, PCIBusID: cuda.ShortBusID(card.bus)}
	d.TotalBytes, d.FreeBytes, d.Unread = card.sizes()
	for i, p := range parts {
		part := cuda.SMIInstance{Index: fmt.Sprint(i), UUID: p.uuid}
		if p.code == notFound { // a place of the card that no part takes
			continue
		}
		part.TotalBytes, part.FreeBytes, part.Unread = p.sizes()
		d.Instances = append(d.Instances, part)
	}
	return d
}

// unavailable is the error for a library that is not there or does not start.
func unavailable(path, format string, args ...any) error {
	return &cuda.Unavailable{Path: path, Reason: strings.TrimPrefix(fmt.Sprintf(format, args...), path+": ")}
}
