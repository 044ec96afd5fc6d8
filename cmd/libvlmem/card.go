//go:build cgo

package main

/*
#include <stdint.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"sync"
	"unsafe"

	"github.com/vlmem/vlmem/optimizer"
)

// cards are the memories that programs with streams of their own were given, by number of the card. PyTorch's pluggable
// allocator calls functions without a handle, so there is one a process and card.
var cards struct {
	mu     sync.Mutex
	open   map[int]*optimizer.CardMemory
	failed map[int]string // the last refusal, since the callers of C's functions get no words
}

// cardMemory is the memory of a card, opened with the system's driver at its first use.
func cardMemory(device int) (*optimizer.CardMemory, error) {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	if m := cards.open[device]; m != nil {
		return m, nil
	}
	return openCard("", device, 0)
}

// openCard opens and keeps the memory of a card; the lock is held.
func openCard(library string, device int, max int64) (*optimizer.CardMemory, error) {
	if cards.open[device] != nil {
		return nil, fmt.Errorf("the memory of card %d is open", device)
	}
	m, err := optimizer.OpenCard(library, device, max)
	if err != nil {
		return nil, err
	}
	if cards.open == nil {
		cards.open, cards.failed = map[int]*optimizer.CardMemory{}, map[int]string{}
	}
	cards.open[device] = m
	return m, nil
}

// refused keeps the words of what failed.
func refused(device int, err error) {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	if cards.failed == nil {
		cards.failed = map[int]string{}
	}
	cards.failed[device] = err.Error()
}

// vlmem_card_open opens the memory of a card before its first use, by another driver library or with at most max bytes
// (0: what the card has).
//
//export vlmem_card_open
func vlmem_card_open(library *C.char, device C.int, max C.int64_t, message **C.char) C.int {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	_, err := openCard(C.GoString(library), int(device), int64(max))
	return failed(err, message)
}

//export vlmem_card_take
func vlmem_card_take(bytes C.int64_t, device C.int, stream unsafe.Pointer) unsafe.Pointer {
	m, err := cardMemory(int(device))
	if err != nil {
		refused(int(device), err)
		return nil
	}
	address, err := m.Allocate(int64(bytes), uintptr(stream))
	if err != nil {
		refused(int(device), err)
		return nil
	}
	return *(*unsafe.Pointer)(unsafe.Pointer(&address)) // an address of the card, nothing of Go's
}

// vlmem_torch_free is PyTorch's free: the block goes back behind what its streams hold, whatever stream is named here.
//
//export vlmem_torch_free
func vlmem_torch_free(block unsafe.Pointer, bytes C.size_t, device C.int, stream unsafe.Pointer) {
	m, err := cardMemory(int(device))
	if err == nil && block != nil {
		err = m.Free(uint64(uintptr(block)))
	}
	if err != nil {
		refused(int(device), err)
	}
}

// vlmem_torch_record is PyTorch's record_stream: another stream uses the block until it is freed.
//
//export vlmem_torch_record
func vlmem_torch_record(block, stream unsafe.Pointer) {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	var err error
	for _, m := range cards.open {
		if err = m.Use(uint64(uintptr(block)), uintptr(stream)); err == nil {
			return
		}
	}
	for device := range cards.open {
		cards.failed[device] = err.Error()
	}
}

// vlmem_torch_trim is PyTorch's empty_cache: whole free granules go back to every card.
//
//export vlmem_torch_trim
func vlmem_torch_trim() {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	for device, m := range cards.open {
		if _, err := m.Trim(); err != nil {
			cards.failed[device] = err.Error()
		}
	}
}

//export vlmem_card_statistics
func vlmem_card_statistics(device C.int, out, message **C.char) C.int {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	m := cards.open[int(device)]
	if m == nil {
		return failed(fmt.Errorf("the memory of card %d is not open: %s", int(device), cards.failed[int(device)]), message)
	}
	data, err := json.Marshal(struct {
		pool
		OutOfMemory int64  `json:"out_of_memory"`
		LastRefusal string `json:"last_refusal,omitempty"`
	}{poolOf(m.Statistics()), m.Statistics().OutOfMemory, cards.failed[int(device)]})
	if err == nil {
		*out = C.CString(string(data))
	}
	return failed(err, message)
}

//export vlmem_card_close
func vlmem_card_close(device C.int, message **C.char) C.int {
	cards.mu.Lock()
	defer cards.mu.Unlock()
	m := cards.open[int(device)]
	if m == nil {
		return failed(fmt.Errorf("the memory of card %d is not open", int(device)), message)
	}
	delete(cards.open, int(device))
	return failed(m.Close(), message)
}
