package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Settings are taken from the command line, then the environment, then the folder's file, then the user's; the first
// that has a flag decides.
func TestTheNearestSourceDecides(t *testing.T) {
	home, here := t.TempDir(), t.TempDir()
	t.Chdir(here)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(home, "vlmem", "config.yaml"),
		"model: of-user\nformat: of-user\nimage: of-user\noutput: of-user\n")
	write(File, "model: of-folder\nformat: of-folder\n")
	environment := map[string]string{"XDG_CONFIG_HOME": home, "VLMEM_MODEL": "of-environment"}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	known := []string{"model", "format", "image", "output", "context"}
	for _, name := range known {
		flags.String(name, "own", "")
	}
	if err := flags.Parse([]string{"--context", "given"}); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) (string, bool) { value, ok := environment[name]; return value, ok }
	if err := Apply(flags, known, lookup); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"context": "given", "model": "of-environment", "format": "of-folder",
		"image": "of-user", "output": "of-user"} {
		if got := flags.Lookup(name).Value.String(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for text, want := range map[string]string{"modle: x\n": "unknown key modle",
		"output: x\n":     "the current folder may not",
		"model: [a, b]\n": "a list of 2, want one value", "model: [\n": "reading settings vlmem.yaml"} {
		write(File, text)
		fresh := pflag.NewFlagSet("", pflag.ContinueOnError)
		fresh.String("model", "own", "")
		none := func(string) (string, bool) { return "", false }
		if err := Apply(fresh, known, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	got := Unknown([]string{"VLMEM_MODEL=a", "VLMEM_MODLE=a", "VLMEM_LIBCUDA=x", "HOME=/", "VLMEM_TEST_X=1"},
		[]string{"model"})
	if !slices.Equal(got, []string{"VLMEM_MODLE"}) {
		t.Errorf("%v", got)
	}
	if got := Variable("max-first-token"); got != "VLMEM_MAX_FIRST_TOKEN" {
		t.Error(got)
	}
}

func TestBounds(t *testing.T) {
	if err := Within(AtMost("ctx", MostTokens, MostTokens), AtMost("batch", -1, MostBatch)); err != nil {
		t.Error(err)
	}
	if err := Within(AtMost("ctx", 1, 2), AtMost("batch", 3, 2)); err == nil || !strings.Contains(err.Error(),
		"--batch 3") {
		t.Errorf("%v", err)
	}
	for value, ok := range map[float64]bool{0: false, 0.9: true, 1: true, 1.01: false, -0.5: false} {
		if err := Share("utilization", value); (err == nil) != ok {
			t.Errorf("%g: %v", value, err)
		}
	}
	if n, err := Size("device-memory", "24GiB"); n != 24<<30 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Size("device-memory", "much"); err == nil || !strings.Contains(err.Error(), "--device-memory") {
		t.Errorf("%v", err)
	}
}

// A command with --ctx takes --context as well, and one that has both keeps them apart.
func TestOtherWords(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	context := flags.String("ctx", "", "")
	OtherWords(flags)
	if err := flags.Parse([]string{"--context", "8192"}); err != nil || *context != "8192" {
		t.Errorf("%q, %v", *context, err)
	}
}
