package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
)

// observedHelp is the help of --observed.
const observedHelp = "file of rates measured on this machine, which move the predicted ones: llama-bench's JSON or CSV; a reply of llama-server or Ollama or a result of vllm bench serve as FILE:MODEL:QUANT; may be repeated"

// split tells rates from the other observations: a file of rates reads as such, or names its model.
func split(files []string) (observations, rates []string) {
	for _, f := range files {
		data, err := file.Read(f, file.Document)
		if err == nil {
			_, err = speed.ReadTimings(f, data)
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

// calibrate reads files of rates measured on the hardware; nil without any.
func calibrate(files []string, h profile.Hardware) (*speed.Calibration, error) {
	if len(files) == 0 {
		return nil, nil
	}
	constants, err := speed.Fitted()
	if err != nil {
		return nil, err
	}
	var seen []speed.Observation
	for _, f := range files {
		more, err := observed(f, h)
		if err != nil {
			return nil, fmt.Errorf("reading --observed: %w", err)
		}
		seen = append(seen, more...)
	}
	k, err := constants.Calibrate(seen)
	if err != nil {
		return nil, fmt.Errorf("reading --observed: %w", err)
	}
	return k, nil
}

// observed reads one file: its name, or name, model and type of weights with colons between.
func observed(spec string, h profile.Hardware) ([]speed.Observation, error) {
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
	timings, err := speed.ReadTimings(path, data)
	if err != nil {
		return nil, err
	}
	var model *profile.Model
	if name != "" {
		m, err := catalog.Model(name)
		if err != nil {
			return nil, err
		}
		model = &m
	}
	var out []speed.Observation
	for _, t := range timings {
		if quant != "" {
			t.Type = quant
		}
		o, err := speed.Observe(t, h, model)
		if err != nil {
			return nil, fmt.Errorf("%s: %w, as %s:MODEL:QUANT", path, err, path)
		}
		out = append(out, o)
	}
	return out, nil
}
