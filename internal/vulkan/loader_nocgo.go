//go:build !cgo || !linux

package vulkan

import "fmt"

func devices(string) ([]Device, error) {
	return nil, fmt.Errorf("%w: built without cgo", ErrUnavailable)
}
