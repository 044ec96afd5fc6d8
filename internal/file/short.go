package file

import (
	"errors"
	"slices"
	"syscall"
)

// Short reports whether an error is the machine's: room, rights to write or descriptors that it is short of.
func Short(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.EIO, syscall.EROFS,
		syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN},
		func(short error) bool { return errors.Is(err, short) })
}
