//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/rivals/libc"
)

// TestSignalsEndEveryCommand sends a signal to commands that would go on for long, or for ever, at the moment when they
// have begun to write, and looks at the exit code and at what they leave.
func TestSignalsEndEveryCommand(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	if got := vlmem(t, nil, "advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "-o", config); got.code != 0 {
		t.Fatal(got.stderr)
	}
	long := "100000000"
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		args   []string
	}{
		{"probe", syscall.SIGINT, []string{"probe", "--deep"}},
		{"advise", syscall.SIGTERM, []string{"advise"}},
		{"advise samples", syscall.SIGINT, []string{"advise", "--hardware", "i5-10210u", "--seeds", "10000"}},
		{"advise for", syscall.SIGHUP, []string{"advise", "--for", "malloc", "--image", "2048x2048", "--context", "8192"}},
		{"bench", syscall.SIGINT, []string{"bench", "--repeats", "1000"}},
		{"bench children", syscall.SIGTERM, []string{"bench", "--allocators", "go", "--repeats", "1000"}},
		{"bench tiles", syscall.SIGINT, []string{"bench", "tiles", "--grid"}},
		{"bench streams", syscall.SIGTERM, []string{"bench", "streams", "--on", "host", "--repeats", long}},
		{"trace gen", syscall.SIGTERM, []string{"trace", "gen", "--mix", "documents", "--requests", long}},
		{"trace info", syscall.SIGINT, []string{"trace", "info", "/dev/fd/3"}},
		{"trace import", syscall.SIGTERM, []string{"trace", "import", "/dev/fd/3"}},
		{"verify", syscall.SIGINT, []string{"verify", "/dev/fd/3"}},
		{"verify seeds", syscall.SIGTERM, []string{"verify", config, "--seeds", "10000"}},
		{"estimate", syscall.SIGINT, []string{"estimate", "--model", "/dev/fd/3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if slices.Contains(c.args, "malloc") && !libc.Available {
				t.Skip("built without cgo: there is no C library's heap to run")
			}
			t.Parallel()
			signalled(t, c.signal, c.args)
		})
	}
}

func signalled(t *testing.T, signal syscall.Signal, args []string) {
	folder := t.TempDir()
	silent, holder, err := os.Pipe() // nobody ever writes to it
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	defer holder.Close()
	cmd := exec.Command(os.Args[0], append(args, "-o", filepath.Join(folder, "out"))...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "XDG_CONFIG_HOME="+folder)
	cmd.ExtraFiles = []*os.File{silent}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var sent time.Time
	for begun := false; !begun; {
		select {
		case err := <-ended:
			t.Fatalf("%v ended before the signal: %v", args, err)
		case <-time.After(5 * time.Millisecond):
			left, err := os.ReadDir(folder)
			begun = err == nil && len(left) > 0
		}
	}
	sent = time.Now()
	if err := cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-ended:
	case <-time.After(time.Minute): // a guard against hanging, far above what a busy machine takes
		_ = cmd.Process.Kill()
		t.Fatalf("%v does not end", args)
	}
	t.Logf("ended %v after the signal", time.Since(sent).Round(time.Millisecond))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 128+int(signal) {
		t.Errorf("%v: %v, want exit status %d", args, err, 128+int(signal))
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("%v left %v, %v", args, left, err)
	}
}
