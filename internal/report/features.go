package report

import (
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Features writes a machine as a feature file of Node Feature Discovery's local source: NAME=VALUE lines, of which
// nfd-worker makes the labels feature.node.kubernetes.io/NAME. Values are those that stay while the machine does: sizes
// are whole numbers of bytes, which node affinity compares with Gt and Lt; a bandwidth is the largest power of two, in
// GB/s, that is not above it, so that what varies between two measurements rarely moves a label. Memory is the least of
// all bounds, as if nobody else were there, since what is in use does not stay. gpus are those that CUDA or a profile
// tells of, cards those of other makers that an engine can compute on. What was not found has no line.
func Features(w io.Writer, h profile.Hardware) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "vlmem-%s=%s\n", name, value)
		}
	}
	if m := h.Measured; m != nil {
		line("llc-kept-bytes", positive(m.LLCBytes))
		line("memory-bandwidth-class", bandwidthClass(m.DRAMReadBytesPerS))
	}
	if m := h.Memory; m != nil {
		room := m.Room(true)
		line("memory-bytes", positive(room.Capacity))
		kind, _, _ := strings.Cut(room.Name, " ") // without the group or nodes, whose names change
		line("memory-binds", labelText(kind))
	}
	line("gpus", fmt.Sprint(len(h.GPUs)))
	for i, g := range h.GPUs {
		gpu := fmt.Sprintf("gpu-%d-", i)
		line(gpu+"name", labelText(g.Name))
		line(gpu+"compute-capability", labelText(g.ComputeCapability))
		line(gpu+"backend", labelText(g.Backend))
		line(gpu+"memory-bytes", positive(g.MemoryBytes))
		line(gpu+"bandwidth-class", bandwidthClass(g.BandwidthBytesPerS))
	}
	foreign := slices.DeleteFunc(slices.Clone(h.Cards), func(c profile.Card) bool {
		return c.Visible || len(c.Backends) == 0 || slices.Contains(c.Backends, "cuda")
	})
	if len(foreign) > 0 {
		line("cards", fmt.Sprint(len(foreign)))
	}
	for i, c := range foreign {
		card := fmt.Sprintf("card-%d-", i)
		line(card+"vendor", labelText(c.Vendor))
		line(card+"name", labelText(c.Name))
		line(card+"architecture", labelText(c.Architecture))
		line(card+"backend", labelText(c.Backends[0]))
		if c.VRAMBytes != nil {
			line(card+"memory-bytes", positive(*c.VRAMBytes))
		}
		line(card+"bandwidth-class", bandwidthClass(c.BandwidthBytesPerS))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func positive(b units.Bytes) string {
	if b <= 0 {
		return ""
	}
	return fmt.Sprintf("%d", int64(b))
}

func bandwidthClass(r units.Rate) string {
	gigabytes := uint64(max(0, r/1e9))
	if gigabytes == 0 {
		return ""
	}
	return fmt.Sprint(1 << (bits.Len64(gigabytes) - 1))
}

// labelLength is the most characters of a label's value (Kubernetes, apimachinery validation, LabelValueMaxLength).
const labelLength = 63

// labelText makes text a label's value: letters, digits, "-", "_" and "." alone, a letter or digit at each end.
func labelText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, text)
	return strings.Trim(text[:min(len(text), labelLength)], "-_.")
}
