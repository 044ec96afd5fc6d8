//go:build unix

package file_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/file"
)

// A lock that another holds is waited for no longer than told, and what is no file is refused at once.
func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept.json.lock")
	unlock, err := file.TryLock(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.TryLock(path, 0); !errors.Is(err, file.ErrTurn) {
		t.Errorf("a lock held elsewhere: %v", err)
	}
	unlock()
	if unlock, err = file.TryLock(path, 0); err != nil {
		t.Fatal(err)
	}
	unlock()
	pipe := path + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := file.TryLock(pipe, time.Hour); err == nil {
		t.Error("a pipe was locked")
	}
}
