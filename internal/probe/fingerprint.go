package probe

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Fingerprint is the same for two runs whose figures may be compared: the same processors, caches, limits, pages,
// kernel and cards. What changes from run to run on one machine stays out: free memory, clocks, balloons, and
// everything measured.
func Fingerprint(h profile.Hardware) string {
	type card struct {
		Name, Capability string
		Memory           units.Bytes
		Driver           string
	}
	var facts struct {
		CPU    *profile.CPU
		Memory units.Bytes
		Limit  *units.Bytes
		Pages  string
		System *profile.System
		Nodes  [][]int
		Cards  []card
		Others []card `json:",omitempty"` // that CUDA does not serve
	}
	if h.CPU != nil {
		c := *h.CPU
		c.MHz, c.Source = 0, nil
		facts.CPU = &c
	}
	if m := h.Memory; m != nil {
		facts.Memory, facts.Limit, facts.Pages = m.TotalBytes/units.GiB, m.LimitBytes, m.TransparentHugePage
	}
	facts.System = h.System
	for _, n := range h.NUMA {
		facts.Nodes = append(facts.Nodes, n.CPUs)
	}
	for _, g := range h.GPUs {
		facts.Cards = append(facts.Cards, card{g.Name, g.ComputeCapability, g.MemoryBytes, g.DriverVersion})
	}
	for _, c := range h.Cards {
		if c.Vendor == "NVIDIA" {
			continue // among the GPUs where it computes; shown on the bus alone, nothing runs on it
		}
		memory := units.Bytes(0)
		if c.VRAMBytes != nil {
			memory = *c.VRAMBytes
		}
		facts.Others = append(facts.Others, card{Name: c.PCIID + " " + c.Name, Memory: memory, Driver: c.Driver})
	}
	data, err := json.Marshal(facts)
	if err != nil {
		return "" // a frequency or quota that is no number: nothing to compare
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))[:16]
}
