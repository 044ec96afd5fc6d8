// Package standin builds Vulkan's loader without a driver, for tests: C of our own, compiled by the system's compiler.
// What it shows stands at the head of src/libvulkan.c.
package standin

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed src/libvulkan.c
var source []byte

// Build compiles the loader into the test's folder and sets the environment it reads, "NAME=VALUE" each. The test is
// skipped where there is no C compiler.
func Build(t testing.TB, settings ...string) (path string) {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler (cc) to build the stand-in loader with")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "libvulkan.c")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "libvulkan.so.1")
	said, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, file).CombinedOutput()
	if err != nil {
		t.Fatalf("building the stand-in loader: %v\n%s", err, said)
	}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		t.Setenv(name, value)
	}
	return path
}
