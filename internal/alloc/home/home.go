// Package home says where a goroutine runs from, as far as that can be had for a nanosecond.
//
// A cache that is split so that goroutines do not wait for each other needs a number that differs between goroutines
// and stays the same in one. Go has no such number. The page of the goroutine's stack is one, nearly: stacks of
// different goroutines never share 8 KiB, and one goroutine changes its page only with the depth of its calls or when
// its stack moves. It is a hint: nothing may be wrong when it changes between two calls.
package home

import "unsafe"

// Hint is a well-mixed number of the calling goroutine.
func Hint() uint32 {
	var here byte
	page := uintptr(unsafe.Pointer(&here)) >> 13
	return uint32(uint64(page) * 0x9E3779B97F4A7C15 >> 32)
}
