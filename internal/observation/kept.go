package observation

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
)

// ReadFile reads the observation of a file.
func ReadFile(path string) (*Observation, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return nil, err
	}
	return Decode(path, data)
}

// Folder is where runs are kept: below XDG_DATA_HOME, else ~/.local/share.
func Folder(lookup func(string) (string, bool)) (string, error) {
	base, _ := lookup("XDG_DATA_HOME")
	if base == "" {
		home, ok := lookup("HOME")
		if !ok || home == "" {
			return "", errors.New("there is no data folder: XDG_DATA_HOME and HOME are not set")
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "vlmem", "observations"), nil
}

// Keep is the file of a folder that a run is kept in; the folder is made.
func (o *Observation) Keep(folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("keeping the observation: %w", err)
	}
	name := fmt.Sprintf("%s-%s.json", o.Started.Format("20060102T150405.000"),
		strings.ReplaceAll(filepath.Base(o.Command[0]), " ", "_"))
	return filepath.Join(folder, name), nil
}

// Kept reads the runs of a machine that lie in a folder. One that is not there holds none.
func Kept(folder, machine string) ([]*Observation, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*Observation
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		run, err := ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		if run.Machine.Name == machine {
			list = append(list, run)
		}
	}
	return list, nil
}

// ReadFiles reads the observations of files, those that sacct wrote among them.
func ReadFiles(paths []string) (list []*Observation, err error) {
	for _, path := range paths {
		data, err := file.Read(path, file.Document)
		if err != nil {
			return nil, err
		}
		if fromSacct(data) {
			peaks, err := DecodeSacct(path, data)
			if err != nil {
				return nil, err
			}
			list = append(list, peaks...)
			continue
		}
		run, err := Decode(path, data)
		if err != nil {
			return nil, err
		}
		list = append(list, run)
	}
	return list, nil
}

// Find reads the files that are named and, of the machine here, those that are kept in the user's folder; here is ""
// where those are not asked for. A note says that none is kept.
func Find(named []string, here string, lookup func(string) (string, bool)) (list []*Observation, note string,
	err error) {
	if list, err = ReadFiles(named); err != nil {
		return nil, "", fmt.Errorf("reading --observed: %w", err)
	}
	if here == "" {
		return list, "", nil
	}
	folder, err := Folder(lookup)
	if err != nil {
		return nil, "", err
	}
	kept, err := Kept(folder, here)
	if err != nil {
		return nil, "", fmt.Errorf("reading --learned: %w", err)
	}
	if list = append(list, kept...); len(list) == 0 {
		note = fmt.Sprintf("no run of this machine is kept in %s: vlmem run --keep keeps them", folder)
	}
	return list, note, nil
}
