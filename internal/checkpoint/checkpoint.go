// Package checkpoint is the files of a published model as they lie on this machine: a folder with config.json and
// safetensors, found by path, or by name in the caches of Hugging Face's hub and of Ollama. Nothing is downloaded, and
// of weights the headers alone are read.
//
// Which files a load reads follows transformers: model.safetensors.index.json decides where it is there, else
// model.safetensors, else the numbered shards. What lies beside them is not loaded: the same weights in another format
// (consolidated.safetensors), adapters, other precisions.
package checkpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Checkpoint is a folder of a model.
type Checkpoint struct {
	Model   profile.Model
	Tensors []weights.Tensor // of the files that a load reads; nil where the folder has none
	Notes   []string         // what lies there and is not counted, a sentence each
}

// Open reads a folder's configuration, what its processor says, and the headers of its weights.
func Open(folder string) (Checkpoint, error) {
	var c Checkpoint
	var err error
	if c.Model, err = Configuration(folder); err != nil {
		return c, err
	}
	files, err := c.files(folder)
	if err != nil {
		return c, err
	}
	for _, name := range files {
		tensors, err := c.header(folder, name)
		if err != nil {
			return c, err
		}
		c.Tensors = append(c.Tensors, tensors...)
	}
	return c, nil
}

// Configuration reads a folder's configuration and what its processor says, and leaves its weights alone.
func Configuration(folder string) (profile.Model, error) {
	path := filepath.Join(folder, "config.json")
	data, err := file.Read(path, file.Document)
	if errors.Is(err, fs.ErrNotExist) {
		err = cmp.Or(alone(folder), err)
	}
	if err != nil {
		return profile.Model{}, err
	}
	m, err := profile.DecodeAnyModel(path, data)
	if err != nil {
		return m, err
	}
	return m, readBeside(folder, &m)
}

// alone says that a folder holds an adapter without its model, nil where it does not.
func alone(folder string) error {
	data, err := file.Read(filepath.Join(folder, "adapter_config.json"), file.Document)
	var a struct {
		Base string `json:"base_model_name_or_path"`
	}
	if err != nil || json.Unmarshal(data, &a) != nil {
		return nil
	}
	return fmt.Errorf("%s: an adapter without its model: name the model that it was made for (%s) with --model", folder,
		cmp.Or(a.Base, "its base_model_name_or_path is empty"))
}

// readBeside reads the processors' limits and ModelOpt's quantisation, which stand in files of their own.
func readBeside(folder string, m *profile.Model) error {
	for _, name := range []string{"processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"} {
		data, err := readOptional(folder, name)
		if err != nil {
			return err
		}
		if data != nil {
			if err := m.ReadProcessor(filepath.Join(folder, name), data); err != nil {
				return err
			}
		}
	}
	const modelOpt = "hf_quant_config.json"
	data, err := readOptional(folder, modelOpt)
	if err != nil || data == nil || m.Quantisation != nil {
		return err
	}
	m.Quantisation, err = profile.DecodeModelOpt(filepath.Join(folder, modelOpt), data)
	return err
}

// mostIndex is far above the index of a thousand experts' tensors, which takes 9 MiB.
const mostIndex = 64 << 20

// readOptional is nil for a file that is not there.
func readOptional(folder, name string) ([]byte, error) {
	data, err := file.Read(filepath.Join(folder, name), mostIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// shard is a numbered file of a model without an index.
var shard = regexp.MustCompile(`-(\d{5})-of-(\d{5})\.safetensors$`)

// files are the names of the files that a load reads. A file that is named and missing is an error.
func (c *Checkpoint) files(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder) // no pattern: a folder may be named with brackets
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", folder, err)
	}
	var there []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".safetensors") {
			there = append(there, e.Name())
		}
	}
	wanted, err := indexed(folder)
	switch {
	case err != nil:
		return nil, err
	case wanted != nil:
	case slices.Contains(there, "model.safetensors"):
		wanted = []string{"model.safetensors"}
	default:
		wanted = plainShards(there)
	}
	for _, name := range wanted {
		if !slices.Contains(there, name) {
			return nil, fmt.Errorf("%s: %s is missing: the model is in %d files, of which %s here", folder, name, len(wanted),
				countOf(wanted, there))
		}
	}
	c.note(folder, there, wanted)
	return wanted, nil
}

func countOf(wanted, there []string) string {
	n := 0
	for _, name := range wanted {
		if slices.Contains(there, name) {
			n++
		}
	}
	if n == 1 {
		return "1 is"
	}
	return strconv.Itoa(n) + " are"
}

// indexed is the files that the index names, nil without an index.
func indexed(folder string) ([]string, error) {
	const name = "model.safetensors.index.json"
	data, err := readOptional(folder, name)
	if err != nil || data == nil {
		return nil, err
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &index); err != nil || len(index.Map) == 0 {
		return nil, fmt.Errorf("%s: want a weight_map that names the file of each tensor", filepath.Join(folder, name))
	}
	var files []string
	for _, file := range index.Map {
		files = append(files, filepath.Base(file))
	}
	slices.Sort(files)
	return slices.Compact(files), nil
}

// plainShards are the files of a model without an index: all that belong to a numbered set, else all that are no
// adapter and no second copy.
func plainShards(there []string) []string {
	var wanted []string
	for _, name := range there {
		if other(name) {
			continue
		}
		wanted = append(wanted, name)
		if m := shard.FindStringSubmatch(name); m != nil {
			count, _ := strconv.Atoi(m[2])
			for i := range min(count, 1<<12) {
				wanted = append(wanted, fmt.Sprintf("%s-%05d-of-%s.safetensors", strings.TrimSuffix(name, m[0]), i+1, m[2]))
			}
		}
	}
	slices.Sort(wanted)
	return slices.Compact(wanted)
}

func other(name string) bool {
	return strings.HasPrefix(name, "adapter") || strings.HasPrefix(name, "consolidated") || strings.Contains(name, "lora")
}

// note says what lies beside the files that are loaded.
func (c *Checkpoint) note(folder string, there, wanted []string) {
	for _, name := range there {
		if slices.Contains(wanted, name) {
			continue
		}
		what := "is not among the model's files"
		switch {
		case strings.HasPrefix(name, "adapter"):
			what = "is an adapter, which PEFT would load beside the model"
		case strings.HasPrefix(name, "consolidated"):
			what = "is the same model in Mistral's format"
		}
		size := ""
		if tensors, err := c.header(folder, name); err == nil {
			size = " of " + weights.Total(tensors).String()
		}
		c.Notes = append(c.Notes, fmt.Sprintf("%s%s %s: not counted", name, size, what))
	}
}

// header reads the tensors that a file lists, and notes where it is too short to hold them.
func (c *Checkpoint) header(folder, name string) ([]weights.Tensor, error) {
	f, err := file.Open(filepath.Join(folder, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tensors, err := weights.ReadSafetensors(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if info, err := f.Stat(); err == nil && units.Bytes(info.Size()) < weights.Total(tensors) {
		c.Notes = append(c.Notes, fmt.Sprintf("%s has %s and lists tensors of %s: a download cut off, or a header alone",
			name,
			units.Bytes(info.Size()), weights.Total(tensors)))
	}
	return tensors, nil
}
