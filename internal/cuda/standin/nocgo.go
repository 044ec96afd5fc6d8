//go:build !cgo || !linux

package standin

const cgo = false
