package speed

import (
	"fmt"
	"os"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
)

// Split tells rates from the other observations: a file of rates reads as such, or names its model.
func Split(files []string) (observations, rates []string) {
	for _, f := range files {
		data, err := file.Read(f, file.Document)
		if err == nil {
			_, err = ReadTimings(f, data)
		} else if strings.Count(f, ":") >= 2 {
			err = nil
		}
		if err == nil {
			rates = append(rates, f)
		} else {
			observations = append(observations, f)
		}
	}
	return observations, rates
}

// Finder is a model by its name.
type Finder func(name string) (profile.Model, error)

// CalibrateFrom reads files of rates measured on the hardware, whose models find knows, beside timings that are known;
// nil without any.
func CalibrateFrom(files []string, h profile.Hardware, find Finder, known ...Timing) (*Calibration, error) {
	if len(files)+len(known) == 0 {
		return nil, nil
	}
	constants, err := Fitted()
	if err != nil {
		return nil, err
	}
	var seen []Observation
	for _, f := range files {
		more, err := observed(f, h, find)
		if err != nil {
			return nil, fmt.Errorf("reading --observed: %w", err)
		}
		seen = append(seen, more...)
	}
	for _, t := range known {
		o, err := Observe(t, h, nil)
		if err != nil {
			return nil, fmt.Errorf("reading --observed: %w", err)
		}
		seen = append(seen, o)
	}
	k, err := constants.Calibrate(seen)
	if err != nil {
		return nil, fmt.Errorf("reading --observed: %w", err)
	}
	return k, nil
}

// observed reads one file: its name, or name, model and type of weights with colons between.
func observed(spec string, h profile.Hardware, find Finder) ([]Observation, error) {
	path, name, quant := spec, "", ""
	if parts := strings.Split(spec, ":"); len(parts) >= 3 {
		if _, err := os.Stat(spec); err != nil {
			n := len(parts)
			path, name, quant = strings.Join(parts[:n-2], ":"), parts[n-2], parts[n-1]
		}
	}
	data, err := file.Read(path, file.Document)
	if err != nil {
		return nil, err
	}
	timings, err := ReadTimings(path, data)
	if err != nil {
		return nil, err
	}
	var model *profile.Model
	if name != "" {
		m, err := find(name)
		if err != nil {
			return nil, err
		}
		model = &m
	}
	var out []Observation
	for _, t := range timings {
		if quant != "" {
			t.Type = quant
		}
		o, err := Observe(t, h, model)
		if err != nil {
			return nil, fmt.Errorf("%s: %w, as %s:MODEL:QUANT", path, err, path)
		}
		out = append(out, o)
	}
	return out, nil
}
