//go:build !cgo || !linux

package nvml

import "github.com/vlmem/vlmem/internal/cuda"

// library is never made, so its methods are reached by no program.
type library struct{}

func open(string) (*library, error) { return nil, &cuda.Unavailable{Reason: "built without cgo"} }

func (*library) read() (cuda.SMI, error)           { return cuda.SMI{}, cuda.ErrUnavailable }
func (*library) processes() (map[int]int64, error) { return nil, cuda.ErrUnavailable }

func (*library) close() error { return cuda.ErrUnavailable }
