package optimizer

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A module of its own imports the package and runs a configuration.
func TestFromAnotherModule(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a module of its own")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) string {
		t.Helper()
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	module := strings.Replace(read("../go.mod"), "module github.com/vlmem/vlmem", "module example.com/user", 1)
	write("go.mod", module+"\nrequire github.com/vlmem/vlmem v0.0.0\n\nreplace github.com/vlmem/vlmem => "+root+"\n")
	write("go.sum", read("../go.sum"))
	write("main.go", read("testdata/program.go.txt"))
	write("config.yaml", advised(t, small...))
	cmd := exec.Command("go", "run", "-mod=mod", ".", "config.yaml")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !regexp.MustCompile(`^text_embeddings: external fragmentation 0\.\d\d before, 0\.\d\d after\n` +
		`10000 tensors, up to \d\d spaces in a pool, 0 bytes live in the end\n$`).Match(out) {
		t.Errorf("it says %q", out)
	}
	t.Logf("%s", out)
}
