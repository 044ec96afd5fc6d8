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

// ReadFiles reads the observations of files.
func ReadFiles(paths []string) (list []*Observation, err error) {
	for _, path := range paths {
		run, err := ReadFile(path)
		if err != nil {
			return nil, err
		}
		list = append(list, run)
	}
	return list, nil
}
