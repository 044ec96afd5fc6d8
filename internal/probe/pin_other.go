//go:build !linux

package probe

import "errors"

func pin(int) error { return errors.New("pinning to a CPU: only Linux can") }

func interruptions() int64 { return 0 }

func pageFaults() int64 { return 0 }
