package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Profiles is the list of built-in hardware and models.
type Profiles struct {
	Hardware []profile.Hardware `yaml:"hardware" json:"hardware"`
	Models   []ModelRow         `yaml:"models" json:"models"`
}

// ModelRow is one model's sizes, in 16-bit elements.
type ModelRow struct {
	Name            string      `yaml:"name" json:"name"`
	Parameters      int64       `yaml:"parameters" json:"parameters"`
	WeightBytes     units.Bytes `yaml:"weight_bytes" json:"weight_bytes"`
	KVBytesPerToken units.Bytes `yaml:"kv_bytes_per_token" json:"kv_bytes_per_token"`
}

// Write renders the list.
func (p Profiles) Write(w io.Writer, format string) error {
	if format != "table" {
		return Document(w, format, p)
	}
	var hosts, cards, models [][]string
	for _, h := range p.Hardware {
		if h.CPU != nil {
			hosts = append(hosts, []string{h.Name, h.CPU.Model, fmt.Sprintf("%d / %d", h.CPU.Cores, h.CPU.Threads),
				h.Memory.TotalBytes.String()})
		}
		for _, g := range h.GPUs {
			cards = append(cards, []string{h.Name, strings.TrimPrefix(g.Name, "NVIDIA "), g.ComputeCapability,
				fmt.Sprint(g.SMCount), g.MemoryBytes.String(), g.BandwidthBytesPerS.String()})
		}
		for _, c := range h.Cards {
			cards = append(cards, []string{h.Name, c.Name, strings.Join(c.Backends, ", "), "-", sizeOf(c.VRAMBytes), "-"})
		}
	}
	for _, m := range p.Models {
		models = append(models, []string{m.Name, units.Grouped(m.Parameters), m.WeightBytes.String(),
			units.Grouped(int64(m.KVBytesPerToken)) + " B"})
	}
	for i, t := range []struct {
		headers []string
		rows    [][]string
		right   []int
	}{
		{[]string{"MACHINE", "PROCESSOR", "CORES", "MEMORY"}, hosts, []int{3}},
		{[]string{"CARD", "NAME", "CC", "SMS", "MEMORY", "BANDWIDTH"}, cards, []int{3, 4, 5}},
		{[]string{"MODEL", "PARAMETERS", "FP16 WEIGHTS", "KV PER TOKEN"}, models, []int{1, 2, 3}},
	} {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := Table(w, t.headers, t.rows, t.right...); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is a size that may not be known.
func sizeOf(b *units.Bytes) string {
	if b == nil {
		return "-"
	}
	return b.String()
}

// ProfilesOf lists hardware and models.
func ProfilesOf(hardware []profile.Hardware, models []profile.Model) Profiles {
	list := Profiles{Hardware: hardware}
	for _, m := range models {
		list.Models = append(list.Models, ModelRow{Name: m.Name, Parameters: m.Parameters().Total(),
			WeightBytes: m.WeightBytes(profile.FP16), KVBytesPerToken: m.KVBytesPerToken(profile.FP16)})
	}
	return list
}
