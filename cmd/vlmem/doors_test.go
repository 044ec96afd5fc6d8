package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/settings"
)

// The current folder's settings may be anybody's: they change what is computed, never what is written or run.
func TestSettingsOfTheFolderNeitherWriteNorRun(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		text string
		args []string
	}{
		{"output: kept\n", []string{"profiles"}},
		{"OUTPUT: kept\n", []string{"profiles"}},
		{"save: kept\n", []string{"probe", "--reported"}},
		{"report: [junit=kept]\n", []string{"profiles"}},
		{"exec: touch ran\n", []string{"watch", "--once"}},
	} {
		for name, text := range map[string]string{settings.File: c.text, "kept": "old"} {
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got := vlmem(t, nil, c.args...)
		kept, err := os.ReadFile("kept")
		if got.code != exitUsage || !strings.Contains(got.stderr, "the current folder may not ask for") || got.stdout != "" ||
			err != nil || string(kept) != "old" {
			t.Errorf("%q: exit %d, stderr %q, the file holds %q", c.text, got.code, got.stderr, kept)
		}
	}
	if _, err := os.Stat("ran"); err == nil {
		t.Error("a command of the folder's settings ran")
	}
}

// Every flag that writes or runs is known as one: its description says what it does.
func TestActingFlagsAreAllKnown(t *testing.T) {
	writes := []string{"write to this file", "save the run", "also write", "run this shell command",
		"file of NAME=value lines to set", "keep the observation", "write the observation"}
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			acts := slices.ContainsFunc(writes, func(w string) bool { return strings.Contains(f.Usage, w) })
			if acts != slices.Contains(settings.Acting, f.Name) {
				t.Errorf("%s --%s: %q: acting is %v", c.CommandPath(), f.Name, f.Usage, !acts)
			}
		})
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRootCmd(&environment{}))
}

// What needs no settings is not stopped by bad ones.
func TestBadSettingsStopNoHelp(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(settings.File, []byte("nonsense: [\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"version"}, {"help"}, {"help", "bench"}, {}, {"trace"}, {"bench", "--help"},
		{"completion", "bash"}, {"__complete", "bench", "--mo"}} {
		if got := vlmem(t, nil, args...); got.code != 0 || got.stdout == "" {
			t.Errorf("%v: exit %d, %q", args, got.code, got.stderr)
		}
	}
	if got := vlmem(t, nil, "profiles"); got.code != exitUsage {
		t.Errorf("profiles: exit %d with settings that cannot be read", got.code)
	}
}

func TestSettingsTakeLists(t *testing.T) {
	t.Chdir(t.TempDir())
	bench := []string{"bench", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1", "--repeats", "1",
		"--touch=false", "--format", "csv"}
	for _, c := range []struct{ text, want string }{
		{"allocators: [bestfit, buddy]\n", ""},
		{"allocators: bestfit,buddy\n", ""},
		{"image: [64x64]\n", ""},
		{"model: [a, b]\n", ""},
		{"repeats: [1]\n", ""},
	} {
		if err := os.WriteFile(settings.File, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got := vlmem(t, nil, bench...)
		chosen := strings.HasPrefix(c.text, "allocators")
		if got.code != 0 || chosen == strings.Contains(got.stdout, ",vlmem,") {
			t.Errorf("%q: exit %d, %s%s", c.text, got.code, got.stdout, got.stderr)
		}
	}
	if err := os.WriteFile(settings.File, []byte("format: [json, yaml]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := vlmem(t, nil, "profiles"); got.code != exitUsage ||
		!strings.Contains(got.stderr, "a list of 2, want one value") {
		t.Errorf("a list for one value: exit %d, %q", got.code, got.stderr)
	}
}

func TestVariablesThatAreNoSettingsAreNamed(t *testing.T) {
	var stdout, stderr bytes.Buffer
	env := &environment{stdout: &stdout, stderr: &stderr, lookup: func(string) (string, bool) { return "", false },
		environ: func() []string {
			return []string{"VLMEM_FROMAT=json", "VLMEM_LIBCUDA=x", "VLMEM_FORMAT=json", "VLMEMX=1", "HOME=/"}
		}}
	if code := run(t.Context(), env, []string{"profiles"}); code != 0 {
		t.Fatal(stderr.String())
	}
	want := "vlmem: VLMEM_FROMAT is the name of no flag and has no effect: VLMEM_FORMAT is that of --format\n"
	if stderr.String() != want {
		t.Errorf("got %q, want %q", stderr.String(), want)
	}
}

// A device that is full is the machine's fault, and a file that was there is still whole.
func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	got := vlmem(t, nil, "profiles", "-o", "/dev/full")
	if got.code != exitUnable || !strings.Contains(got.stderr, "no space left") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
}

// Numbers that no machine has are refused by name, at once.
func TestEndlessFlags(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"trace", "gen", "--frames", "2147483648"}, "--frames 2147483648: at most"},
		{[]string{"trace", "gen", "--images", "2147483648"}, "--images 2147483648: at most"},
		{[]string{"trace", "gen", "--batch", "2147483648"}, "--batch 2147483648: at most"},
		{[]string{"trace", "gen", "--batch", "4000", "--images", "4000"}, "at most 65536 together"},
		{[]string{"trace", "gen", "--decode", "2147483648"}, "--decode 2147483648: at most"},
		{[]string{"trace", "gen", "--image", "9223372036854775807x9223372036854775807"}, "at most 1048576 of each"},
		{[]string{"estimate", "--ctx", "9223372036854775807"}, "--ctx 9223372036854775807: at most"},
		{[]string{"estimate", "--ubatch", "9223372036854775807"}, "--ubatch 9223372036854775807: at most"},
		{[]string{"estimate", "--parallel", "2147483648"}, "--parallel 2147483648: at most"},
		{[]string{"estimate", "--engine", "vllm", "--utilization", "NaN"}, "--utilization NaN: want a share"},
		{[]string{"estimate", "--engine", "vllm", "--utilization", "-0.5"}, "--utilization -0.5: want a share"},
		{[]string{"estimate", "--engine", "vllm", "--utilization", "Inf"}, "--utilization +Inf: want a share"},
	} {
		got := vlmem(t, nil, c.args...)
		if got.code != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, c.want) ||
			strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, %q, want %q", c.args, got.code, got.stderr, c.want)
		}
	}
}

// A panic is one line, an exit code of its own, and leaves nothing.
func TestFaultsOfOurOwn(t *testing.T) {
	folder := t.TempDir()
	var stdout, stderr bytes.Buffer
	env := &environment{stdout: &stdout, stderr: &stderr, lookup: func(name string) (string, bool) {
		if name == "VLMEM_FORMAT" {
			panic("planted")
		}
		return "", false
	}}
	code := run(t.Context(), env, []string{"profiles", "-o", filepath.Join(folder, "out")})
	if code != exitFault || !strings.HasPrefix(stderr.String(), "vlmem: internal fault: planted at ") ||
		strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
