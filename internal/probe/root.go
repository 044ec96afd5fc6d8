package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/shirou/gopsutil/v3/common"
)

// root is the file system a machine is read from: "/" or a directory with a captured sys and proc. Reads never leave
// it: os.Root refuses links that point outside, so a capture cannot show the machine it is read on.
type root struct {
	dir   string
	live  bool
	self  string // the folder of the process that is looked at: proc/self, or of one that was named
	named bool
	fs    *os.Root
}

func openRoot(dir string) (*root, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() { // OpenRoot would wait for the writer of a named pipe
		err = syscall.ENOTDIR
	}
	var r *os.Root
	if err == nil {
		r, err = os.OpenRoot(dir)
	}
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, fmt.Errorf("opening root %s: %w", dir, err)
	}
	absolute, err := filepath.Abs(dir)
	return &root{dir: dir, live: err == nil && absolute == "/", self: "proc/self", fs: r}, nil
}

func (r *root) close() { _ = r.fs.Close() } // opened for reading alone: nothing can be lost

// text reads the file at path, a name like "sys/devices/system/cpu/online", without surrounding space.
func (r *root) text(path string) (string, error) {
	data, err := r.read(strings.TrimPrefix(path, "/"))
	if err != nil {
		return "", fmt.Errorf("/%s: %s", strings.TrimPrefix(path, "/"), reason(err))
	}
	return strings.TrimSpace(strings.Trim(string(data), "\x00")), nil
}

// mostText is far above the longest file of /proc that is read: cpuinfo has 1.5 KiB a processor.
const mostText = 32 << 20

// read reads an ordinary file. In a capture anything may lie anywhere: a pipe would be waited for without end.
func (r *root) read(path string) ([]byte, error) {
	info, err := r.fs.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no ordinary file")
	}
	if err != nil {
		return nil, err
	}
	f, err := r.fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostText+1))
	if err == nil && len(data) > mostText {
		err = fmt.Errorf("longer than %d bytes", mostText)
	}
	return data, err
}

// reason is what a person is told about a failed read: the words without the path that the caller already gives.
func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "not there"
	case errors.Is(err, fs.ErrPermission):
		return "no permission"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// int reads a number, ignoring what follows it ("32K" is 32, as the kernel writes cache sizes).
func (r *root) int(path string) (int, error) {
	text, err := r.text(path)
	if err != nil {
		return 0, err
	}
	end := len(text) - len(strings.TrimLeft(text, "-0123456789"))
	n, err := strconv.Atoi(text[:end])
	if err != nil {
		return 0, fmt.Errorf("/%s: %q is no number", path, text)
	}
	return n, nil
}

// number reads a whole number, decimal or 0x hexadecimal.
func (r *root) number(path string) (int, error) {
	text, err := r.text(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil {
		err = fmt.Errorf("/%s: %q is no number", path, text)
	}
	return int(n), err
}

func (r *root) list(path string) (cpuset, error) { return r.set(path, parseList) }
func (r *root) mask(path string) (cpuset, error) { return r.set(path, parseMask) }

func (r *root) set(path string, parse func(string) (cpuset, error)) (cpuset, error) {
	text, err := r.text(path)
	if err != nil {
		return nil, err
	}
	s, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", path, err)
	}
	return s, nil
}

// firstMask reads the first of paths that is there.
func (r *root) firstMask(paths ...string) (s cpuset, err error) {
	for _, path := range paths {
		if s, err = r.mask(path); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func (r *root) exists(path string) bool {
	_, err := r.fs.Stat(path)
	return err == nil
}

// field is the rest of the first line of a file that begins with name, "" where there is none.
func (r *root) field(path, name string) string {
	text, _ := r.text(path)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// names lists a directory, nil where it cannot be read.
func (r *root) names(path string) []string {
	dir, err := r.fs.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was listed before a failure still counts
	return names
}

// numbered lists the n of all entries "prefix<n>" of a directory.
func (r *root) numbered(path, prefix string) cpuset {
	var s cpuset
	for _, name := range r.names(path) {
		digits, ok := strings.CutPrefix(name, prefix)
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && n < maxCPU {
			s = s.with(n)
		}
	}
	return s
}

// gopsutil is the context under which gopsutil reads this root.
func (r *root) gopsutil() context.Context {
	return context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostProcEnvKey: filepath.Join(r.dir, "proc"),
		common.HostSysEnvKey:  filepath.Join(r.dir, "sys"),
		common.HostRootEnvKey: r.dir,
	})
}
