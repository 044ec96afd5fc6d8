//go:build unix

package file_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vlmem/vlmem/internal/file"
)

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// create writes text without committing it.
func create(t *testing.T, d *file.Desk, path, text string) *file.Pending {
	t.Helper()
	p, err := d.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return p
}

// names lists a folder.
func names(t *testing.T, folder string) string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestAFileIsOldUntilItIsNew(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "out")
	write(t, path, "old", 0o600)
	var d file.Desk
	p := create(t, &d, path, "new")
	if got := content(t, path); got != "old" {
		t.Errorf("before Commit it holds %q", got)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	p.Discard() // does nothing any more
	if got := content(t, path); got != "new" {
		t.Errorf("after Commit it holds %q", got)
	}
	if got := names(t, folder); got != "out" {
		t.Errorf("the folder holds %s", got)
	}
	create(t, &d, path, "never").Discard()
	if got := content(t, path) + " " + names(t, folder); got != "new out" {
		t.Errorf("after Discard: %s", got)
	}
}

// The mode of a file that is replaced is kept, also a narrow one; a new one has what the umask leaves.
func TestModes(t *testing.T) {
	folder := t.TempDir()
	before := syscall.Umask(0o027)
	defer syscall.Umask(before)
	var d file.Desk
	for _, c := range []struct {
		name string
		old  fs.FileMode // 0: no file
		want fs.FileMode
	}{{"new", 0, 0o640}, {"private", 0o600, 0o600}, {"open", 0o666, 0o666}, {"script", 0o755, 0o755}} {
		path := filepath.Join(folder, c.name)
		if c.old != 0 {
			write(t, path, "old", c.old)
		}
		if err := create(t, &d, path, "text").Commit(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != c.want {
			t.Errorf("%s: mode %v, %v; want %v", c.name, info.Mode(), err, c.want)
		}
	}
}

func TestLinksAreFollowed(t *testing.T) {
	folder := t.TempDir()
	if err := os.MkdirAll(filepath.Join(folder, "deep", "deeper"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "deep", "there"), "old", 0o644)
	links := map[string]string{"absolute": filepath.Join(folder, "deep", "there"), "relative": "deep/there",
		"dangling": "deep/not-yet", "chain": "dangling", "folder": "deep/deeper", "circle": "circle", "lost": "none/file"}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Symlink("../dangling", filepath.Join(folder, "deep", "up")); err != nil {
		t.Fatal(err)
	}
	var d file.Desk
	for i, name := range []string{"absolute", "relative", "dangling", "chain", "deep/up"} {
		text := fmt.Sprint("text ", i)
		if err := create(t, &d, filepath.Join(folder, name), text).Commit(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, filepath.Join(folder, name)); got != text {
			t.Errorf("%s leads to %q, want %q", name, got, text)
		}
		if info, err := os.Lstat(filepath.Join(folder, name)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link any more", name)
		}
	}
	if got := names(t, filepath.Join(folder, "deep")); got != "deeper not-yet there up" {
		t.Errorf("the folder behind the links holds %s", got)
	}
	for name, want := range map[string]string{"folder": "a folder", "circle": "circle", "lost": "no such file"} {
		if _, err := d.Create(filepath.Join(folder, name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// What a killed writer left is removed by the next one, and what a living one writes is not.
func TestLeftFilesAreRemoved(t *testing.T) {
	folder := t.TempDir()
	left := filepath.Join(folder, ".vlmem-0badf00d")
	write(t, left, "half a result", 0o600)
	write(t, filepath.Join(folder, ".vlmem-notes"), "somebody's own", 0o600)
	var living, next file.Desk
	slow := create(t, &living, filepath.Join(folder, "slow"), "whole")
	write(t, left, "half a result", 0o600) // living has swept already
	if err := create(t, &next, filepath.Join(folder, "quick"), "text").Commit(); err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := names(t, folder); got != ".vlmem-notes quick slow" {
		t.Errorf("the folder holds %s", got)
	}
}

// Several files are replaced all or none: here the second one's folder is gone when its turn comes.
func TestAllOrNone(t *testing.T) {
	folder := t.TempDir()
	var d file.Desk
	for _, name := range []string{"a", "gone", "c"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(folder, "a", "file"), "old a", 0o644)
	first := create(t, &d, filepath.Join(folder, "a", "file"), "new a")
	fresh := create(t, &d, filepath.Join(folder, "c", "file"), "new c")
	second := create(t, &d, filepath.Join(folder, "gone", "file"), "new gone")
	if err := os.RemoveAll(filepath.Join(folder, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := file.CommitAll(first, fresh, second); err == nil {
		t.Fatal("the folder was gone, and nobody said so")
	}
	if got := content(t, filepath.Join(folder, "a", "file")); got != "old a" {
		t.Errorf("the first holds %q, want what was there", got)
	}
	if got := names(t, filepath.Join(folder, "a")) + "|" + names(t, filepath.Join(folder, "c")); got != "file|" {
		t.Errorf("left behind: %s", got)
	}
	first, fresh = create(t, &d, filepath.Join(folder, "a", "file"), "new a"),
		create(t, &d, filepath.Join(folder, "c", "file"), "new c")
	if err := file.CommitAll(first, fresh); err != nil {
		t.Fatal(err)
	}
	if got := content(t, filepath.Join(folder, "a", "file")) + content(t, filepath.Join(folder, "c", "file")); got !=
		"new anew c" {
		t.Errorf("both hold %q", got)
	}
	if got := names(t, filepath.Join(folder, "a")); got != "file" {
		t.Errorf("left behind: %s", got)
	}
}

func TestAbandonRemovesAndStops(t *testing.T) {
	folder := t.TempDir()
	var d file.Desk
	p := create(t, &d, filepath.Join(folder, "out"), "text")
	d.Abandon()
	if got := names(t, folder); got != "" {
		t.Errorf("left behind: %s", got)
	}
	if _, err := p.Write([]byte("more")); err != nil {
		t.Errorf("a writer still at work fails: %v", err)
	}
	if err := p.Commit(); err == nil {
		t.Error("an abandoned file was committed")
	}
	if _, err := d.Create(filepath.Join(folder, "out")); err == nil {
		t.Error("a file was begun after the end")
	}
	if got := names(t, folder); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

// Writers of one path at once: the file is always one of theirs, whole.
func TestWritersAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 100_000)
			for range 20 {
				var d file.Desk
				p, err := d.Create(path)
				if err == nil {
					_, err = p.Write([]byte(text))
				}
				if err == nil {
					err = p.Commit()
				}
				if err != nil {
					t.Error(err)
					return
				}
				data, err := os.ReadFile(path)
				if err != nil || len(data) != len(text) || strings.Count(string(data), string(data[:1])) != len(text) {
					t.Errorf("read %d bytes, %v", len(data), err)
				}
			}
		})
	}
	writers.Wait()
	if got := names(t, filepath.Dir(path)); got != "out" {
		t.Errorf("left behind: %s", got)
	}
}

func TestRefusals(t *testing.T) {
	folder := t.TempDir()
	var d file.Desk
	if _, err := d.Create(folder); err == nil || !strings.Contains(err.Error(), "a folder") {
		t.Errorf("in a folder's place: %v", err)
	}
	if _, err := d.Create(filepath.Join(folder, "none", "out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
	for _, path := range []string{folder, os.DevNull} {
		if _, err := file.Read(path, 10); err == nil {
			t.Errorf("%s was read", path)
		}
	}
	write(t, filepath.Join(folder, "long"), "eleven byte", 0o644)
	if _, err := file.Read(filepath.Join(folder, "long"), 10); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("a file beyond the limit: %v", err)
	}
	if data, err := file.Read(filepath.Join(folder, "long"), 11); err != nil || len(data) != 11 {
		t.Errorf("a file at the limit: %d bytes, %v", len(data), err)
	}
	if os.Geteuid() != 0 {
		write(t, filepath.Join(folder, "kept"), "kept", 0o444)
		if _, err := d.Create(filepath.Join(folder, "kept")); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("in the place of a file that may not be written: %v", err)
		}
	}
}

// pipe makes a named pipe that nobody holds.
func pipe(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	return path
}

func TestPipesAreNotWaitedForWithoutEnd(t *testing.T) {
	path := pipe(t)
	if _, err := file.ReadRegular(path, 10); err == nil || !strings.Contains(err.Error(), "a pipe") {
		t.Errorf("as settings: %v", err)
	}
	if _, err := file.Read(path, 10); err == nil || !strings.Contains(err.Error(), "nobody has written") {
		t.Errorf("without a writer: %v", err)
	}
	var d file.Desk
	if _, err := d.Create(path); err == nil || !strings.Contains(err.Error(), "nobody has read") {
		t.Errorf("without a reader: %v", err)
	}
}

// A pipe with another program at its end is read and written as a file is, and stays a pipe.
func TestPipesWithAnotherEnd(t *testing.T) {
	path := pipe(t)
	writer := exec.Command("sh", "-c", "echo text > "+path)
	if err := writer.Start(); err != nil {
		t.Skip(err)
	}
	if data, err := file.Read(path, 10); err != nil || string(data) != "text\n" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := writer.Wait(); err != nil {
		t.Error(err)
	}
	reader := exec.Command("cat", path)
	var out strings.Builder
	reader.Stdout = &out
	if err := reader.Start(); err != nil {
		t.Skip(err)
	}
	var d file.Desk
	if err := create(t, &d, path, "through the pipe").Commit(); err != nil {
		t.Error(err)
	}
	if err := reader.Wait(); err != nil || out.String() != "through the pipe" {
		t.Errorf("the reader had %q, %v", out.String(), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the pipe is now %v, %v", info.Mode(), err)
	}
}
