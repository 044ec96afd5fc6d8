package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/vlmem/vlmem/internal/file"
)

// What was kept is recalled by its key, and where nothing was, not even the folder, nothing is.
func TestKept(t *testing.T) {
	k := file.Kept[[]int]{Path: filepath.Join(t.TempDir(), "new", "kept.json")}
	if got, err := k.Recall("a"); err != nil || got != nil {
		t.Errorf("an empty file recalls %v, %v", got, err)
	}
	for _, key := range []string{"a", "b"} {
		if err := k.Keep(key, []int{len(key), 2}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := k.Recall("a"); err != nil || len(got) != 2 || got[1] != 2 {
		t.Errorf("recalled %v, %v", got, err)
	}
	folder := file.Kept[int]{Path: t.TempDir()}
	if _, err := folder.Recall("a"); err == nil {
		t.Error("a folder was recalled from")
	}
	if err := folder.Keep("a", 1); err == nil {
		t.Error("a folder was written to")
	}
}

func TestWhereAUserKeeps(t *testing.T) {
	for _, c := range []struct{ cache, home, want string }{
		{"/c", "/h", "/c/vlmem/x"}, {"", "/h", "/h/.cache/vlmem/x"}, {"relative", "/h", "/h/.cache/vlmem/x"}, {"", "", ""},
	} {
		k, ok := file.UserKept[int]("x", func(name string) (string, bool) {
			v := map[string]string{"XDG_CACHE_HOME": c.cache, "HOME": c.home}[name]
			return v, v != ""
		})
		if k.Path != c.want || ok != (c.want != "") {
			t.Errorf("%+v: %q, %v", c, k.Path, ok)
		}
	}
}

// An entry that is none is lost alone.
func TestABadEntryIsLostAlone(t *testing.T) {
	k := file.Kept[int]{Path: filepath.Join(t.TempDir(), "kept.json")}
	if err := os.WriteFile(k.Path, []byte(`{"a": 1, "b": "two", "c": {}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep("d", 4); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"a": 1, "b": 0, "c": 0, "d": 4} {
		if got, err := k.Recall(key); err != nil || got != want {
			t.Errorf("%s: %d, %v", key, got, err)
		}
	}
}

// Writers at once lose nothing of each other's, and a file that some other program has spoilt is made anew.
func TestKeptByManyWriters(t *testing.T) {
	k := file.Kept[int]{Path: filepath.Join(t.TempDir(), "kept.json")}
	if err := os.WriteFile(k.Path, []byte(`{"a": [{"entry": "half`), 0o644); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for i := range 16 {
		writers.Go(func() {
			if err := k.Keep(fmt.Sprint("key ", i), i); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	for i := range 16 {
		if got, err := k.Recall(fmt.Sprint("key ", i)); err != nil || got != i {
			t.Errorf("key %d: recalled %v, %v", i, got, err)
		}
	}
}
