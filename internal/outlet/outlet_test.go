package outlet

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/vlmem/vlmem/internal/file"
)

func target(stdout *bytes.Buffer, path string) Target {
	return Target{Stdout: stdout, Desk: &file.Desk{}, Flag: "-o", Path: path,
		Clean: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\x1b"), nil) }}
}

func TestNothingIsShownBeforeItIsWhole(t *testing.T) {
	var stdout bytes.Buffer
	w, err := target(&stdout, "").Open()
	if err != nil {
		t.Fatal(err)
	}
	w.WriteString("a \x1b[31mresult")
	if stdout.Len() > 0 {
		t.Error("shown early")
	}
	if err := w.Commit(); err != nil || stdout.String() != "a [31mresult" {
		t.Errorf("%v: %q", err, stdout.String())
	}
	w.Discard()
}

func TestAFileKeepsWhatItHeldUntilCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, commit := range []bool{false, true} {
		w, err := target(nil, path).Open()
		if err != nil || !w.Filed() {
			t.Fatal(err)
		}
		w.WriteString("new")
		want := "old"
		if commit {
			want, err = "new", w.Commit()
		}
		w.Discard()
		if got, e := os.ReadFile(path); e != nil || err != nil || string(got) != want {
			t.Errorf("committed %v: %q, %v, %v", commit, got, e, err)
		}
	}
}

// A folder that was made for files that never came goes again.
func TestAFolderIsMadeForItsFilesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new") + "/"
	d, err := target(nil, path).OpenFolder(false)
	if err != nil || !d.All() {
		t.Fatal(err)
	}
	d.Discard()
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty folder stays")
	}
	if d, err = target(nil, path).OpenFolder(false); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b"} {
		w, err := d.File(i, name)
		if err != nil {
			t.Fatal(err)
		}
		w.WriteString(name)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	d.Discard()
	if list, err := os.ReadDir(path); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestSameFile(t *testing.T) {
	folder := t.TempDir()
	there, other := filepath.Join(folder, "a"), filepath.Join(folder, "b")
	for _, name := range []string{there, other} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a", filepath.Join(folder, "link")); err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{there, there, true}, {there, folder + "/./a", true}, {there, folder + "/link", true}, {there, other, false},
		{folder + "/new", folder + "/./new", true}, {folder + "/new", there, false}, {"", "", false},
	} {
		if got := same(c.a, c.b); got != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}
