//go:build !unix

package file

import (
	"io/fs"
	"os"
	"time"
)

const closeFirst = true // an open file cannot be renamed

func temporary(target string) (*os.File, error) {
	return os.OpenFile(temporaryName(target), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

func removeStale(string) {} // without locks a running writer's file cannot be told from one that was left

func alike(f *os.File, old fs.FileInfo) error { return os.Chmod(f.Name(), old.Mode().Perm()) }

func mayWrite(string) error { return nil }

func openWriter(path string, _ time.Duration) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY, 0)
}

func synced(f *os.File) error { return f.Sync() }

func syncFolder(string) error { return nil }

// TryLock does nothing on a system without such locks.
func TryLock(string, time.Duration) (unlock func(), err error) { return func() {}, nil }
