//go:build linux && amd64

// Command faults holds the real program to docs/reliability.md: it makes its system calls fail, one at a time, until a
// run passes unharmed; kills it at random moments; and lets many write one file at once. Every run must end well with
// the result of an unharmed run, or with a warning, or with one line of error and files as they were.
//
//	go run ./tools/faults             everything, some minutes
//	go run ./tools/faults -most 20    at most so many calls of each kind
//
// Calls are failed by ptrace: at the entry of the n-th call of a kind the call is taken away, and at its exit the error
// is put in its place. The program is built without cgo, so that all calls are its own and its runtime's.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// kind is a kind of calls with the error that it fails with.
type kind struct {
	name  string
	calls []uint64
	errno syscall.Errno
}

var kinds = []kind{
	{"openat EMFILE", []uint64{syscall.SYS_OPENAT}, syscall.EMFILE},
	{"openat EACCES", []uint64{syscall.SYS_OPENAT}, syscall.EACCES},
	{"read EIO", []uint64{syscall.SYS_READ, syscall.SYS_PREAD64}, syscall.EIO},
	{"write ENOSPC", []uint64{syscall.SYS_WRITE}, syscall.ENOSPC},
	{"fsync EIO", []uint64{syscall.SYS_FSYNC}, syscall.EIO},
	{"rename EROFS", []uint64{syscall.SYS_RENAME, syscall.SYS_RENAMEAT, 316}, syscall.EROFS},
	{"fstat EIO", []uint64{syscall.SYS_FSTAT, syscall.SYS_NEWFSTATAT}, syscall.EIO},
	{"chmod EPERM", []uint64{syscall.SYS_FCHMOD}, syscall.EPERM},
	{"flock ENOLCK", []uint64{syscall.SYS_FLOCK}, syscall.ENOLCK},
	{"mmap ENOMEM", []uint64{syscall.SYS_MMAP}, syscall.ENOMEM},
	{"madvise EINVAL", []uint64{syscall.SYS_MADVISE}, syscall.EINVAL},
	{"munmap ENOMEM", []uint64{syscall.SYS_MUNMAP}, syscall.ENOMEM},
}

var commands = [][]string{
	{"profiles"}, {"estimate", "--model", "qwen3-vl-2b"},
	{"advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--image", "64x64", "--context",
		"256"},
	{"trace", "gen", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1"}, {"trace", "info", "TRACE"},
	{"trace", "check", "RECORDING"}, {"bench", "--trace", "TRACE", "--allocators", "vlmem,bestfit", "--repeats", "1",
		"--format", "junit"},
	{"probe", "--reported"}, {"watch", "--once"},
}

func main() {
	most := flag.Int("most", 60, "calls of each kind to fail in each command")
	kills := flag.Int("kills", 300, "kills at random moments")
	signals := flag.Int("signals", 30, "signals to each command at random moments")
	flag.Parse()
	if err := run(*most, *kills, *signals); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// bench is the program under test in a folder of its own.
type bench struct {
	folder, binary string
	failures       int
}

func run(most, kills, signals int) error {
	folder, err := os.MkdirTemp("", "faults")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	b := &bench{folder: folder, binary: filepath.Join(folder, "vlmem")}
	build := exec.Command("go", "build", "-o", b.binary, "./cmd/vlmem")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w: %s", err, out)
	}
	if err := b.inputs(); err != nil {
		return err
	}
	for _, k := range kinds {
		if err := b.fail(k, most); err != nil {
			return err
		}
	}
	if err := b.interrupt(signals); err != nil {
		return err
	}
	if err := b.kill(kills); err != nil {
		return err
	}
	if err := b.together(20); err != nil {
		return err
	}
	if b.failures > 0 {
		return fmt.Errorf("%d runs broke a promise", b.failures)
	}
	return nil
}

// inputs makes the files that commands read.
func (b *bench) inputs() error {
	trace := filepath.Join(b.folder, "trace.vlmt")
	err := exec.Command(b.binary, "trace", "gen", "--model", "qwen3-vl-2b", "--image", "64x64", "--decode", "1", "-o",
		trace).Run()
	if err != nil {
		return fmt.Errorf("making a trace: %w", err)
	}
	advise := []string{"advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--image", "64x64",
		"--context", "256"}
	bench := []string{"bench", "--image", "64x64", "--decode", "1", "--repeats", "0", "--allocators", "vlmem,bestfit"}
	for _, c := range []struct {
		name string
		args []string
	}{
		{"config.yaml", append(advise, "--seeds", "1")},
		{"shard0", append(bench, "--shard", "0/2")}, {"shard1", append(bench, "--shard", "1/2")},
		{"seeds0", append(advise, "--seeds", "2", "--shard", "0/2")},
		{"seeds1", append(advise, "--seeds", "2", "--shard", "1/2")},
	} {
		args := append(slices.Clone(c.args), "-o", filepath.Join(b.folder, c.name))
		if text, err := exec.Command(b.binary, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("making %s: %w: %s", c.name, err, text)
		}
	}
	recording := "op,addr,size,stream,t_us\nsegment_alloc,4194304,2097152,0,1\nalloc,4194304,100,0,2\n"
	return os.WriteFile(filepath.Join(b.folder, "recording.csv"), []byte(recording), 0o600)
}

// names are how commands name their files.
var names = map[string]string{"TRACE": "trace.vlmt", "CONFIG": "config.yaml", "RECORDING": "recording.csv",
	"SHARD0": "shard0", "SHARD1": "shard1", "SEEDS0": "seeds0", "SEEDS1": "seeds1"}

// line is a command with its files, writing to out.
func (b *bench) line(command []string, out string) []string {
	args := slices.Clone(command)
	for i, a := range args {
		if name := names[a]; name != "" {
			args[i] = filepath.Join(b.folder, name)
		}
	}
	if i := slices.Index(args, "OUT"); i >= 0 {
		args[i] = out
		return args
	}
	return append(args, "-o", out)
}

// outcome is how one run ended.
type outcome struct {
	fired  bool // the call was made, and failed
	exit   int  // 128 and more for a signal
	stderr string
}

// tally counts how runs with a failed call ended.
type tally struct{ sites, clean, warned, refused, runtime int }

// fail takes every command through the failure of each call of a kind.
func (b *bench) fail(k kind, most int) error {
	var t tally
	for _, command := range commands {
		place := filepath.Join(b.folder, "out")
		if err := os.MkdirAll(place, 0o700); err != nil {
			return err
		}
		out := filepath.Join(place, "file")
		want, err := b.unharmed(command, out)
		if err != nil {
			return err
		}
		for n := 1; n <= most; n++ {
			fired, err := b.failOne(&t, k, n, command, out, want)
			if err != nil {
				return err
			}
			if !fired {
				break
			}
		}
	}
	fmt.Printf("%-16s %4d sites: %d as unharmed, %d with a warning, %d refused, %d ended by Go's runtime\n", k.name,
		t.sites,
		t.clean, t.warned, t.refused, t.runtime)
	return nil
}

// failOne fails the n-th call of a command, which fired says it makes, and holds what follows to the promises.
func (b *bench) failOne(t *tally, k kind, n int, command []string, out string, want []byte) (fired bool, err error) {
	if err := os.WriteFile(out, []byte("old"), 0o600); err != nil {
		return false, err
	}
	o, err := traced(b.binary, b.line(command, out), k, n)
	if err != nil || !o.fired {
		return false, err
	}
	t.sites++
	got, err := os.ReadFile(out)
	if err != nil {
		return true, err
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		return true, err
	}
	live := command[0] == "probe" || command[0] == "watch" // what they read changes by itself
	broken := func(why string) { b.broken(k, n, command, o, why) }
	switch {
	case o.exit == 2 && (strings.Contains(o.stderr, "fatal error: ") || strings.Contains(o.stderr, "runtime: ")):
		t.runtime++ // Go's own memory: nothing of ours can answer it
		if string(got) != "old" {
			broken("the runtime ended it in the middle of a file")
		}
		for _, f := range left { // the next run would remove it
			if f.Name() != "file" {
				_ = os.Remove(filepath.Join(filepath.Dir(out), f.Name()))
			}
		}
	case len(left) != 1:
		broken(fmt.Sprintf("left behind: %v", left))
	case o.exit == 0 && (live || bytes.Equal(got, want)):
		t.clean++
	case o.exit == 0 && o.stderr != "":
		t.warned++
	case o.exit == 0:
		broken("another result without a warning")
	case o.exit > 4 || strings.Count(o.stderr, "\n") < 1 || strings.Contains(o.stderr, "goroutine "):
		broken("no clear error")
	default:
		if string(got) != "old" && o.exit != 1 && o.exit != 4 && !bytes.Equal(got, want) {
			broken("half a file")
		}
		t.refused++
	}
	return true, nil
}

func (b *bench) broken(k kind, n int, command []string, o outcome, why string) {
	b.failures++
	fmt.Printf("BROKEN  %s, call %d of %v: %s; exit %d, %.300q\n", k.name, n, command, why, o.exit, o.stderr)
}

// unharmed is the result without a failure.
func (b *bench) unharmed(command []string, out string) ([]byte, error) {
	cmd := exec.Command(b.binary, b.line(command, out)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%v: %w: %s", command, err, text)
	}
	return os.ReadFile(out)
}

// kill ends the program at random moments while it replaces a file and several files of a folder.
func (b *bench) kill(times int) error {
	place := filepath.Join(b.folder, "killed")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return err
	}
	trace := b.line([]string{"trace", "gen", "--mix", "documents", "--requests", "20"}, filepath.Join(place, "file"))
	folder := b.line([]string{"advise", "--for", "llama-server", "--hardware", "i5-10210u+gtx-1080"}, place+"/")
	whole, early, mixed := 0, 0, 0
	for i := range times {
		args := [][]string{trace, folder}[i%2]
		cmd := exec.Command(b.binary, args...)
		if err := cmd.Start(); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.Int64N(int64(120 * time.Millisecond))))
		_ = cmd.Process.Kill()
		if cmd.Wait() == nil {
			whole++
		} else {
			early++
		}
		if data, err := os.ReadFile(filepath.Join(place, "file")); err == nil && !bytes.Contains(data, []byte("\nend ")) {
			b.failures++
			fmt.Println("BROKEN  a kill left half a trace")
		}
		args1, err1 := os.Stat(filepath.Join(place, "llama-server.args"))
		preset, err2 := os.Stat(filepath.Join(place, "llama-server.ini"))
		if errors.Is(err1, os.ErrNotExist) != errors.Is(err2, os.ErrNotExist) ||
			err1 == nil && err2 == nil && args1.ModTime().Sub(preset.ModTime()).Abs() > 5*time.Second {
			mixed++
		}
	}
	for _, args := range [][]string{trace, folder} {
		if out, err := exec.Command(b.binary, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	left, err := filepath.Glob(filepath.Join(place, ".vlmem-*"))
	if err != nil || len(left) > 0 {
		b.failures++
		fmt.Printf("BROKEN  the next run left %v, %v\n", left, err)
	}
	fmt.Printf("kill -9          %4d times: %d had ended, %d were cut off; %d folders of two ages; nothing left after "+
		"the next run\n",
		times, whole, early, mixed)
	return nil
}

// together lets many replace one file at once.
func (b *bench) together(writers int) error {
	place := filepath.Join(b.folder, "together")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return err
	}
	out := filepath.Join(place, "file")
	want, err := b.unharmed(commands[1], out)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	faults := make(chan string, writers)
	for range writers {
		all.Go(func() {
			if text, err := exec.Command(b.binary, b.line(commands[1], out)...).CombinedOutput(); err != nil {
				faults <- fmt.Sprintf("%v: %s", err, text)
			}
		})
	}
	all.Wait()
	close(faults)
	for f := range faults {
		b.failures++
		fmt.Println("BROKEN  one of many writers:", f)
	}
	got, err := os.ReadFile(out)
	left, e := os.ReadDir(place)
	if err != nil || e != nil || !bytes.Equal(got, want) || len(left) != 1 {
		b.failures++
		fmt.Printf("BROKEN  after %d writers at once: %d bytes, %v, %v\n", writers, len(got), left, errors.Join(err, e))
	}
	fmt.Printf("at once          %4d writers of one file\n", writers)
	return nil
}
