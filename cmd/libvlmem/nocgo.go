//go:build !cgo

// Command libvlmem is package optimizer for other languages. It needs cgo.
package main

import "os"

func main() {
	_, _ = os.Stderr.WriteString("libvlmem is a C library: build it with CGO_ENABLED=1 and -buildmode=c-shared\n")
	os.Exit(2)
}
