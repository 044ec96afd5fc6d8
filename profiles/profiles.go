// Package profiles holds the machines, models and request mixes that vlmem knows without measuring: YAML files,
// embedded.
//
// hardware/NAME.yaml follows profile.Hardware, model/NAME.yaml follows profile.Model, mix/NAME.yaml follows
// profile.Mix; the file's name is the name that --hardware, --model and --mix take. Each value's source stands in the
// file. To add one, add the file: nothing else lists them.
package profiles

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

//go:embed hardware/*.yaml model/*.yaml mix/*.yaml
var files embed.FS

// HardwareNames lists the built-in machines and cards in alphabetical order.
func HardwareNames() []string { return names("hardware") }

// ModelNames lists the built-in models in alphabetical order.
func ModelNames() []string { return names("model") }

// MixNames lists the built-in request mixes in alphabetical order.
func MixNames() []string { return names("mix") }

// Hardware reads a built-in machine or card. The error of an unknown name says so alone; callers list the names.
func Hardware(name string) (profile.Hardware, error) {
	data, err := read("hardware", name)
	if err != nil {
		return profile.Hardware{}, err
	}
	return profile.DecodeHardware(name+".yaml", data)
}

// Model reads a built-in model.
func Model(name string) (profile.Model, error) {
	data, err := read("model", name)
	if err != nil {
		return profile.Model{}, err
	}
	return profile.DecodeModel(name+".yaml", data)
}

// Mix reads a built-in request mix.
func Mix(name string) (profile.Mix, error) {
	data, err := read("mix", name)
	if err != nil {
		return profile.Mix{}, err
	}
	return profile.DecodeMix(name+".yaml", data)
}

func read(kind, name string) ([]byte, error) {
	data, err := files.ReadFile(path.Join(kind, name+".yaml"))
	if err != nil {
		return nil, fmt.Errorf("unknown %s %q", kind, name)
	}
	return data, nil
}

func names(kind string) []string {
	entries, err := files.ReadDir(kind)
	if err != nil {
		panic(err) // the folder is embedded: it is there or the program was not built
	}
	var list []string
	for _, e := range entries {
		list = append(list, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return list
}
