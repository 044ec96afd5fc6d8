// Package standin builds a CUDA driver without a card, for tests: C of our own, compiled by the system's compiler.
//
// The library answers the calls that package cuda makes, with the attributes of a Quadro P6000, a GTX 1080 Ti or an
// MX350, memory that can be written and read, streams and events on threads, and failures on request. What it cannot do
// is stand at the head of src/libcuda.c. Every Build is a library of its own, so tests share no state.
package standin

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
)

//go:embed src/libcuda.c
var source []byte

//go:embed src/libnvidia-ml.c
var managementSource []byte

// Options choose what the stand-in is. The zero value is a healthy Quadro P6000, or the driver that VLMEM_TEST_LIBCUDA
// names: with it, tests that need no more than a healthy card run on this machine's.
type Options struct {
	Card   string   // p6000, gtx1080ti, mx350; none for a driver without a device
	Memory int64    // bytes of device memory, 0 for the card's
	Fail   []string // CALL:NTH:CODE or CALL:NTH:CODE:sticky
	Hide   []string // exported symbols that the library shall lack
}

// Library is a built stand-in.
type Library struct {
	Path   string // for cuda.Open
	report string
}

// Build compiles a stand-in into the test's folder and sets the environment it reads when it is opened. The test is
// skipped where there is no C compiler or the program was built without cgo.
func Build(t testing.TB, o Options) Library {
	t.Helper()
	if !cgo {
		t.Skip("built without cgo: no library can be loaded")
	}
	if path := os.Getenv("VLMEM_TEST_LIBCUDA"); path != "" && o.Card == "" && o.Memory == 0 &&
		len(o.Fail)+len(o.Hide) == 0 {
		return Library{Path: path}
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler (cc) to build the stand-in driver with")
	}
	compiled := compileWhole
	if len(o.Hide) > 0 {
		compiled = func() ([]byte, error) { return compile(source, o.Hide) }
	}
	library, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	lib := Library{Path: filepath.Join(dir, "libcuda.so.1"), report: filepath.Join(dir, "report")}
	if err := os.WriteFile(lib.Path, library, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("VLMEM_STANDIN_CARD", o.Card)
	t.Setenv("VLMEM_STANDIN_FAIL", strings.Join(o.Fail, ","))
	t.Setenv("VLMEM_STANDIN_REPORT", lib.report)
	t.Setenv("VLMEM_STANDIN_MEMORY", "")
	if o.Memory > 0 {
		t.Setenv("VLMEM_STANDIN_MEMORY", fmt.Sprint(o.Memory))
	}
	return lib
}

// Context starts a stand-in and retains the context of its card. The test fails if anything of it is left when it ends.
func Context(t testing.TB, o Options) (*cuda.Driver, *cuda.Context) {
	t.Helper()
	lib := Build(t, o)
	d, err := cuda.Open(lib.Path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Retain(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Release(); err != nil {
			t.Errorf("releasing the context: %v", err)
		}
		if leaks := lib.Leaks(t); leaks != "clean" {
			t.Errorf("left behind: %s", leaks)
		}
		d.Close()
	})
	return d, c
}

// Management builds a management library (NVML) and sets the environment that it reads, "NAME=VALUE" each; what it can
// be told stands at the head of src/libnvidia-ml.c. Skipped as Build is.
func Management(t testing.TB, settings ...string) (path string) {
	t.Helper()
	if !cgo {
		t.Skip("built without cgo: no library can be loaded")
	}
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler (cc) to build the stand-in library with")
	}
	library, err := compileManagement()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	if err := os.WriteFile(path, library, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		t.Setenv(name, value)
	}
	return path
}

// The libraries with every symbol, made once a process: each takes a third of a second.
var (
	compileWhole      = sync.OnceValues(func() ([]byte, error) { return compile(source, nil) })
	compileManagement = sync.OnceValues(func() ([]byte, error) { return compile(managementSource, nil) })
)

func compile(source []byte, hide []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, out := filepath.Join(dir, "library.c"), filepath.Join(dir, "library.so")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return nil, err
	}
	args := []string{"-shared", "-fPIC", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-o", out, file,
		"-lpthread"}
	if len(hide) > 0 {
		script := filepath.Join(dir, "exports")
		text := fmt.Sprintf("{ global: *; local: %s; };\n", strings.Join(hide, "; "))
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "-Wl,--version-script="+script)
	}
	if said, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the stand-in driver: %w\n%s", err, said)
	}
	return os.ReadFile(out)
}

// Leaks reads what was still live when the last context was released: "clean" where nothing was, or nobody can say.
func (l Library) Leaks(t testing.TB) string {
	t.Helper()
	if l.report == "" {
		return "clean"
	}
	data, err := os.ReadFile(l.report)
	if err != nil {
		t.Fatalf("the last context was never released: %v", err)
	}
	return strings.TrimSpace(string(data))
}
