//go:build !amd64

package kernel

func slower() []streams { return nil }
