package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
)

// capture is a folder with one CPU and 1 GiB.
func capture(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range map[string]string{
		"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Test CPU\nphysical id\t: 0\ncore id\t: " +
			"0\n\n",
		"proc/meminfo": "MemTotal: 1048576 kB\nMemAvailable: 524288 kB\n",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestProbeCapture(t *testing.T) {
	saved := filepath.Join(t.TempDir(), "machine.yaml")
	r := vlmem(t, nil, "probe", "--root", capture(t), "--save", saved)
	if r.code != 0 || !strings.Contains(r.stdout, "Test CPU · 1 package, 1 core, 1 thread") ||
		!strings.Contains(r.stdout, "1 GiB, 512 MiB available") {
		t.Errorf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	data, err := os.ReadFile(saved)
	if err != nil {
		t.Fatal(err)
	}
	h, err := profile.DecodeHardware(saved, data)
	if err != nil || h.CPU.Threads != 1 || h.Measured != nil {
		t.Errorf("%v: %+v", err, h)
	}
	if r := vlmem(t, nil, "probe", "--root", capture(t), "--topology"); r.code != 0 ||
		r.stdout != "Machine (1024MB total) + Package L#0\n  NUMANode L#0 (P#0 1024MB)\n  Core L#0 + PU L#0 (P#0)\n" {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

func TestProbeDoctor(t *testing.T) {
	file := filepath.Join(t.TempDir(), "machine.tar.gz")
	r := vlmem(t, nil, "probe", "--root", capture(t), "--doctor", file)
	data, err := os.ReadFile(file)
	if r.code != 0 || !strings.Contains(r.stdout, "2 files of /sys and /proc") ||
		!strings.Contains(r.stdout, "without serial numbers, UUIDs, users and host name, groups renamed") ||
		err != nil || len(data) < 2 ||
		data[0] != 0x1f || data[1] != 0x8b {
		t.Errorf("exit %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
	for _, args := range [][]string{{"--doctor", file, "--deep"}, {"--pid", "0"}, {"--pid", "-3"},
		{"--doctor", filepath.Join(t.TempDir(), "none", "x.tar.gz")}, {"--pid", "123456789"}} {
		if r := vlmem(t, nil, append([]string{"probe", "--root", capture(t)}, args...)...); r.code != 2 {
			t.Errorf("%q: exit %d: %s%s", args, r.code, r.stdout, r.stderr)
		}
	}
}

func TestProbeReported(t *testing.T) {
	r := vlmem(t, nil, "probe", "--reported", "--format", "json")
	h, err := profile.DecodeHardware("stdout", []byte(r.stdout))
	if r.code != 0 || err != nil || h.CPU == nil || h.Memory == nil || h.Measured != nil {
		t.Errorf("exit %d, %v: %s%s", r.code, err, r.stdout, r.stderr)
	}
}

func TestProbeBadInput(t *testing.T) {
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"--root", "/nonexistent"}, "opening root /nonexistent"},
		{[]string{"--root", t.TempDir()}, "holds neither sys nor proc"},
		{[]string{"--root", "probe.go"}, "opening root probe.go"},
		{[]string{"--root", "/proc", "--deep"}, "--deep measures the machine it runs on"},
		{[]string{"--format", "xml"}, `unknown --format "xml"`},
		{[]string{"--save", "/nonexistent/x.yaml", "--reported"}, "writing --save /nonexistent/x.yaml"},
		{[]string{"--deep", "--reported"}, "--deep and --reported do not go together"},
		{[]string{"--topology", "--format", "json"}, "--topology and --format"},
		{[]string{"--topology", "--save", "x.yaml"}, "--topology and --save"},
		{[]string{"--doctor", "x.tar.gz", "--format", "json"}, "--doctor and --format"},
		{[]string{"--doctor", "x.tar.gz", "-o", "y"}, "--doctor and --output"},
		{[]string{"stray"}, "stray"},
	} {
		r := vlmem(t, nil, append([]string{"probe"}, test.args...)...)
		if r.code != exitUsage || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 ||
			!strings.Contains(r.stderr, test.says) {
			t.Errorf("%v: exit %d, stdout %q, stderr %q", test.args, r.code, r.stdout, r.stderr)
		}
	}
}
