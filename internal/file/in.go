// Package file is how data enters and leaves vlmem as a file.
//
// What is read is bounded and never waited for without end: a file longer than the reader's limit is refused before it
// fills memory, devices and folders are refused by name, and a named pipe must be written to within two seconds. Pipes
// that a shell hands over (/dev/fd/N) are another program's output and may take their time.
//
// What is written replaces a file whole or not at all, whatever happens in between: the bytes go to a temporary file in
// the same folder, which is synced to the disk and renamed over the old one. So at every moment the name holds either
// all of the old content or all of the new. A file that is replaced keeps its mode and, where the system lets us, its
// owner; a new one has what the umask leaves. A link is followed, the file behind it replaced or created. Devices and
// pipes are written to as they are. A Desk knows every temporary file of a run, so that a signal can remove them; one
// that even a kill left behind is recognised by the lock that nobody holds on it, and removed by the next run that
// writes to that folder.
package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/units"
)

// Document is the most bytes of a YAML or JSON document: the largest configurations of published models, with the names
// of tens of thousands of labels, take about one MiB.
const Document = 4 * int64(units.MiB)

// patience is how long a named pipe may stay silent.
const patience = 2 * time.Second

// Read reads a file of at most limit bytes whole.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

// ReadRegular is Read for a file that nobody named, which must be an ordinary one: a pipe there is refused, not waited
// for. Without the file its error is fs.ErrNotExist.
func ReadRegular(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, refuse(path, info.Mode())
	}
	return Read(path, limit)
}

func readAll(f *os.File, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &fs.PathError{Op: "reading", Path: path,
			Err: fmt.Errorf("it is longer than %v, which is no document of this kind", units.Bytes(limit))}
	}
	return data, err
}

// Open opens an ordinary file or a pipe for reading. It does not wait for a pipe's other end for longer than two
// seconds.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, refuse(path, info.Mode())
	}
	f, err := openNow(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeNamedPipe != 0 && !handedOver(path) && !readable(f, patience) {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: path,
			Err: fmt.Errorf("a pipe that nobody has written to for %v", patience)}, f.Close())
	}
	return f, nil
}

// handedOver says whether a path is a descriptor that was open before vlmem began.
func handedOver(path string) bool {
	clean := filepath.Clean(path)
	return strings.HasPrefix(clean, "/dev/") || strings.HasPrefix(clean, "/proc/")
}

// refuse says what stands where a file is wanted.
func refuse(path string, mode fs.FileMode) error {
	what := "it is a device, want a file"
	switch {
	case mode.IsDir():
		what = "it is a folder, want a file"
	case mode&fs.ModeNamedPipe != 0:
		what = "it is a pipe, want a file"
	case mode&fs.ModeSocket != 0:
		what = "it is a socket, want a file"
	}
	return &fs.PathError{Op: "open", Path: path, Err: errors.New(what)}
}
