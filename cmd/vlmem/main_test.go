package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/replay/touched"
	"github.com/vlmem/vlmem/internal/settings"
)

var update = flag.Bool("update", false, "write golden files anew")

// asProgram in the environment makes the test binary vlmem itself, for what only a process can show: signals.
const asProgram = "TEST_AS_PROGRAM"

// TestMain lets the test binary stand in for vlmem where bench starts it as its own child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == touched.Command || os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// result is what one command line did.
type result struct {
	code           int
	stdout, stderr string
}

// vlmem runs a command line with these environment variables, "NAME=value", and no others.
func vlmem(t *testing.T, variables []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	lookup := func(name string) (string, bool) {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		if name == "XDG_CONFIG_HOME" {
			return filepath.Join(t.TempDir(), "none"), true
		}
		return "", false
	}
	env := &environment{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, lookup: lookup}
	code := run(context.Background(), env, args)
	return result{code, stdout.String(), stderr.String()}
}

// golden compares text with a file under testdata, or writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test ./cmd/vlmem -update to make it", err)
	}
	if text != string(want) {
		got := filepath.Join("testdata", ".got-"+name)
		if err := os.WriteFile(got, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s differs from what the command printed, which is in %s", path, got)
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBadInputIsOneLineAndExit2(t *testing.T) {
	malformed := write(t, "m.yaml", "schema: [\n")
	unknown := write(t, "u.yaml", "nonsense: 1\n")
	negative := write(t, "n.yaml", "schema: vlmem/hardware/v1\nname: x\nmemory: {total_bytes: -5}\n")
	empty := write(t, "empty", "")
	noise := write(t, "noise", "\x80\x04\xff\xfe no recording")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"frobnicate"}, `unknown command or argument "frobnicate"`},

		{[]string{"advise", "--nope"}, "unknown flag: --nope; see vlmem advise --help"},
		{[]string{"advise", "stray"}, `"stray" for vlmem advise`},
		{[]string{"advise", "--model", "nope"}, `unknown model "nope": want one of qwen2.5-vl-32b`},
		{[]string{"advise", "--hardware", "nope"}, `unknown hardware "nope": vlmem profiles lists`},
		{[]string{"advise", "--hardware", "gtx-1080"}, "join it to a machine"},
		{[]string{"advise", "--hardware", malformed}, malformed + ":2: "},
		{[]string{"advise", "--hardware", unknown}, unknown + ":1: unknown key nonsense"},
		{[]string{"advise", "--hardware", negative}, negative + `:3: size "-5"`},
		{[]string{"advise", "--hardware", "none.yaml"}, "none.yaml"},
		{[]string{"advise", "--image", "wide"}, `image "wide": want WIDTHxHEIGHT`},
		{[]string{"advise", "--image", "10000x10"}, "aspect ratio"},
		{[]string{"advise", "--context", "100"}, "--context 100: an image of 1280x720 takes 880 tokens"},
		{[]string{"advise", "--context", "-1"}, "--context -1"},
		{[]string{"advise", "--precision", "fp7", "--hardware", "i5-10210u"}, `unknown quantisation "fp7"`},
		{[]string{"advise", "--format", "toml"}, `unknown --format "toml": want one of yaml, json`},
		{[]string{"advise", "-o", "/proc/nope/x.yaml"}, "writing -o /proc/nope/x.yaml"},
		{[]string{"advise", "-o", t.TempDir()}, "it is a folder"},
		{[]string{"bench", "--model", ""}, "--model is given without a value"},
		{[]string{"bench", "--trace", "none"}, "none"},
		{[]string{"bench", "--trace", empty}, empty},
		{[]string{"bench", "--trace", noise}, noise},
		{[]string{"bench", "--trace", t.TempDir()}, ""},
		{[]string{"bench", "--allocators", "nope"}, `unknown allocator "nope"`},
		{[]string{"bench", "--granule", "3KiB"}, "--granule 3KiB"},
		{[]string{"bench", "--repeats", "-1"}, "--repeats -1"},
		{[]string{"profiles", "nope"}, `unknown profile "nope"`},
	} {
		got := vlmem(t, nil, c.args...)
		if got.code != exitUsage || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
			!strings.Contains(got.stderr, c.want) {
			t.Errorf("vlmem %s: exit %d, stdout %q, stderr %q; want exit 2 and %q on one line", strings.Join(c.args, " "),
				got.code, got.stdout, got.stderr, c.want)
		}
	}
}

func TestAdviseForNamedHardware(t *testing.T) {
	for _, c := range []struct{ hardware, model string }{
		{"i5-10210u+mx350", "qwen3-vl-2b"}, {"i5-10210u+gtx-1080-ti", "qwen3-vl-8b"}, {"i5-10210u", "qwen3-vl-4b"},
	} {
		args := []string{"advise", "--hardware", c.hardware, "--model", c.model}
		first, second := vlmem(t, nil, args...), vlmem(t, nil, args...)
		if first.code != 0 || first.stdout != second.stdout {
			t.Errorf("%s on %s: exit %d, twice the same: %v; %s", c.model, c.hardware, first.code, first.stdout == second.stdout,
				first.stderr)
		}
		golden(t, "advise_"+c.hardware+"_"+c.model+".yaml", first.stdout)
	}
}

func TestAdviseSaysWhatIsMissing(t *testing.T) {
	got := vlmem(t, nil, "advise", "--hardware", "i5-10210u+mx350", "--model", "qwen3-vl-32b")
	if got.code != exitUnable || got.stdout != "" || !strings.Contains(got.stderr,
		" is missing on the card and in host memory together") ||
		!strings.Contains(got.stderr, "what would fit: ") ||
		!strings.Contains(got.stderr, "--model qwen3-vl-8b") {
		t.Errorf("exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
	}
}

func TestOutputFileIsWholeOrUntouched(t *testing.T) {
	path := write(t, "config.yaml", "kept\n")
	if got := vlmem(t, nil, "advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-235b-a22b", "-o",
		path); got.code != exitUnable {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "kept\n" {
		t.Errorf("a failed run left %q, %v", data, err)
	}
	if got := vlmem(t, nil, "advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "-o", path); got.code != 0 ||
		got.stdout != "" {
		t.Fatalf("exit %d, stdout %q: %s", got.code, got.stdout, got.stderr)
	}
	if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), "schema: vlmem/v1") {
		t.Errorf("the file holds %q, %v", data, err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestOutputKeepsDevicesAndLinks(t *testing.T) {
	if got := vlmem(t, nil, "profiles", "-o", os.DevNull); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("%s is now %v, %v", os.DevNull, info.Mode(), err)
	}
	file := write(t, "file", "old")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Skip(err)
	}
	if got := vlmem(t, nil, "profiles", "-o", link); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	if data, err := os.ReadFile(file); err != nil || len(data) < 100 {
		t.Errorf("the file behind the link holds %q, %v", data, err)
	}
	if target, err := os.Readlink(link); err != nil || target != file {
		t.Errorf("the link leads to %q, %v", target, err)
	}
}

func TestSettingsGiveWayToFlags(t *testing.T) {
	user := t.TempDir()
	if err := os.Mkdir(filepath.Join(user, "vlmem"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(user, "vlmem", "config.yaml"), []byte("format: table\nmodel: qwen3-vl-2b\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	t.Chdir(here)
	for _, c := range []struct {
		name, file string
		variables  []string
		args       []string
		want       string
	}{
		{"the user's file", "", nil, nil, "MODEL "},
		{"the folder's before it", "format: json\n", nil, nil, `"models"`},
		{"a variable before both", "format: json\n", []string{"VLMEM_FORMAT=yaml"}, nil, "models:\n"},
		{"a flag before all", "format: json\n", []string{"VLMEM_FORMAT=yaml"}, []string{"--format", "table"}, "MODEL "},
	} {
		if err := os.WriteFile(settings.File, []byte(c.file), 0o644); err != nil {
			t.Fatal(err)
		}
		got := vlmem(t, append(c.variables, "XDG_CONFIG_HOME="+user), append([]string{"profiles"}, c.args...)...)
		if got.code != 0 || !strings.Contains(got.stdout, c.want) {
			t.Errorf("%s: exit %d, %q without %q", c.name, got.code, got.stdout[:min(80, len(got.stdout))], c.want)
		}
	}
	if err := os.Remove(settings.File); err != nil {
		t.Fatal(err)
	}
	if got := vlmem(t, []string{"HOME=/dev/null", "XDG_CONFIG_HOME="}, "profiles"); got.code != 0 || got.stderr != "" {
		t.Errorf("a home that is no folder: exit %d, %q", got.code, got.stderr)
	}
	for file, want := range map[string]string{
		"modle: x\n":     "reading settings vlmem.yaml: unknown key modle",
		"seeds: many\n":  "reading settings vlmem.yaml: seeds: ",
		"model: [a, \n":  "reading settings vlmem.yaml: ",
		"format: toml\n": `unknown --format "toml"`,
	} {
		if err := os.WriteFile(settings.File, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := vlmem(t, nil, "advise", "--hardware", "i5-10210u"); got.code != exitUsage ||
			!strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q; want %q", file, got.code, got.stderr, want)
		}
	}
}

func TestBenchShowsBothKindsApart(t *testing.T) {
	got := vlmem(t, nil, "bench", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1", "--repeats", "1",
		"--format", "csv")
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit %d, stderr %q", got.code, got.stderr)
	}
	for _, want := range []string{",vlmem,addresses,", ",bestfit,addresses,", ",buddy,addresses,", ",pytorch,addresses,",
		",vlmem,touched,", ",go,touched,"} {
		if strings.Count(got.stdout, want) != 1 {
			t.Errorf("%q is not in the output once:\n%s", want, got.stdout)
		}
	}
}

// --version and version say the same, and a command that is nearly right is named.
func TestVersionAndNearCommands(t *testing.T) {
	flag, command := vlmem(t, nil, "--version"), vlmem(t, nil, "version")
	if flag.code != 0 || flag.stdout != command.stdout || !strings.HasPrefix(flag.stdout, "vlmem ") {
		t.Errorf("--version: exit %d, %q; version: %q", flag.code, flag.stdout, command.stdout)
	}
	if got := vlmem(t, nil, "advize"); got.code != exitUsage || !strings.Contains(got.stderr, "did you mean advise?") {
		t.Errorf("advize: exit %d, %q", got.code, got.stderr)
	}
}
