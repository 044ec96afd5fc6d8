package file

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Kept is a file of what was found before, by key: what can be found again, and is kept to save time or to stay the
// same. A file that is not there, or is no such file, is empty.
type Kept[T any] struct{ Path string }

// mostTurn is how long writers wait for their turn, far above what one takes: what is kept can be found again, and a
// program that holds the lock for longer holds nobody else up.
const mostTurn = 5 * time.Second

// mostKept is far above what years of use take.
const mostKept = 16 << 20

// UserKept is the file of that name below XDG_CACHE_HOME, else ~/.cache; false where neither is known.
func UserKept[T any](name string, lookup func(string) (string, bool)) (Kept[T], bool) {
	folder, _ := lookup("XDG_CACHE_HOME")
	if !filepath.IsAbs(folder) { // the specification has relative ones ignored
		home, _ := lookup("HOME")
		if home == "" {
			return Kept[T]{}, false
		}
		folder = filepath.Join(home, ".cache")
	}
	return Kept[T]{Path: filepath.Join(folder, "vlmem", name)}, true
}

// Recall returns what is kept under a key, the zero value where nothing is.
func (k Kept[T]) Recall(key string) (T, error) {
	all, err := k.read()
	return all[key], err
}

func (k Kept[T]) read() (map[string]T, error) {
	all := map[string]T{}
	data, err := Read(k.Path, mostKept)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recalling what was kept: %w", err)
	}
	entries := map[string]json.RawMessage{}
	if json.Unmarshal(data, &entries) != nil {
		return all, nil
	}
	for key, entry := range entries { // one that is none of these is lost alone
		var value T
		if json.Unmarshal(entry, &value) == nil {
			all[key] = value
		}
	}
	return all, nil
}

// Keep stores a value under a key. Writers take turns, so that none loses what another kept; the file is replaced
// whole, so that a reader never sees half of it.
func (k Kept[T]) Keep(key string, value T) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping %s: %w", filepath.Base(k.Path), err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(k.Path), 0o755); err != nil {
		return err
	}
	unlock, err := TryLock(k.Path+".lock", mostTurn)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := k.read()
	if err != nil {
		return err
	}
	all[key] = value
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	var desk Desk
	out, err := desk.Create(k.Path)
	if err != nil {
		return err
	}
	defer out.Discard()
	if _, err := out.Write(data); err != nil {
		return err
	}
	return out.Commit()
}
