//go:build unix

package file

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const closeFirst = false // the lock lasts until the rename

// temporary makes a file beside target, locked for as long as it is open, with the mode that the umask leaves. Between
// its making and its locking another run may take it for one that was left; then it is made again.
func temporary(target string) (*os.File, error) {
	for range 100 {
		name := temporaryName(target)
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o666)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && still(f, name) {
			return f, nil
		}
		_ = f.Close()
		_ = os.Remove(name)
	}
	return nil, errors.New("a temporary file there is taken away again and again")
}

// still says whether a name is that of an open file.
func still(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(name)
	return err == nil && os.SameFile(open, named)
}

// removeStale removes a temporary file of this user that nobody has locked.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
		return
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && still(f, path) {
		_ = os.Remove(path)
	}
}

// alike gives a new file the owner and mode of the one that it will replace. Where the owner cannot be kept, the group
// gets no more than everybody: its members may be others.
func alike(f *os.File, old fs.FileInfo) error {
	mode := old.Mode().Perm()
	if stat, ok := old.Sys().(*syscall.Stat_t); ok {
		if f.Chown(int(stat.Uid), int(stat.Gid)) != nil && f.Chown(-1, int(stat.Gid)) != nil {
			mode = mode&^0o070 | mode&0o007<<3
		}
	}
	return f.Chmod(mode)
}

// mayWrite says whether this user may write to the file that would be replaced.
func mayWrite(path string) error { return unix.Access(path, unix.W_OK) }

// openWriter opens a device or a pipe, and waits so long for a pipe's reader.
func openWriter(path string, limit time.Duration) (*os.File, error) {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if !errors.Is(err, syscall.ENXIO) {
			return f, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("a pipe that nobody has read from for %v", limit)
		}
	}
}

// synced brings a file's bytes to the disk. Some file systems have no such call.
func synced(f *os.File) error {
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// syncFolder brings a renaming to the disk. A folder that may not be read cannot be synced, and is still right in
// memory.
func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return nil
	}
	defer f.Close()
	return synced(f)
}

// ErrTurn is for a lock that another program held for too long.
var ErrTurn = errors.New("another program holds it")

// TryLock waits for its turn at whatever the file at path stands for, but no longer than limit, and makes that file
// where it is not there. The lock ends with unlock or with the process.
func TryLock(path string, limit time.Duration) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0o666)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, cmp.Or(err, fmt.Errorf("locking %s: no ordinary file", path))
	}
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		wait := errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR)
		if !wait || time.Now().After(end) {
			if _ = f.Close(); wait {
				err = ErrTurn
			}
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
	}
}
