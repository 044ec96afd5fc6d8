package report

import (
	"fmt"
	"io"
	"math/bits"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Features writes a machine as a feature file of Node Feature Discovery's local source: NAME=VALUE lines, of which
// nfd-worker makes the labels feature.node.kubernetes.io/NAME. Values are those that stay while the machine does: sizes
// are whole numbers of bytes, which node affinity compares with Gt and Lt; a bandwidth is the largest power of two, in
// GB/s, that is not above it, so that what varies between two measurements rarely moves a label. Memory is the least of
// all bounds, as if nobody else were there, since what is in use does not stay. gpus are those that CUDA or a profile
// tells of, cards those of other makers with memory of their own that an engine can compute on, cards-shared those that
// share the host's. What was not found has no line.
//
// Of each model in fits the labels fits-NAME say at what precision, with how much context and how many of its layers on
// the card; of one that does not fit there is none. The error is of two models whose names make one label.
func Features(w io.Writer, h profile.Hardware, fits []fleet.Answer) error {
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
		line("memory-binds", profile.KindOf(room.Name)) // without the group or nodes, whose names change
	}
	line("gpus", fmt.Sprint(len(h.GPUs)))
	for i, g := range h.GPUs {
		gpu := fmt.Sprintf("gpu-%d-", i)
		line(gpu+"name", labelText(g.Name))
		line(gpu+"compute-capability", labelText(g.ComputeCapability))
		line(gpu+"backend", labelText(g.Backend))
		line(gpu+"memory", whose(g.UnifiedMemory))
		line(gpu+"memory-bytes", positive(g.MemoryBytes))
		line(gpu+"bandwidth-class", bandwidthClass(g.BandwidthBytesPerS))
	}
	foreign := slices.DeleteFunc(slices.Clone(h.Cards), func(c profile.Card) bool {
		return c.Visible || len(c.Backends) == 0 || slices.Contains(c.Backends, "cuda")
	})
	shared := 0
	for _, c := range foreign {
		if c.Unified {
			shared++
		}
	}
	if len(foreign) > 0 {
		line("cards", fmt.Sprint(len(foreign)-shared))
		line("cards-shared", fmt.Sprint(shared))
	}
	for i, c := range foreign {
		card := fmt.Sprintf("card-%d-", i)
		line(card+"vendor", labelText(c.Vendor))
		line(card+"name", labelText(c.Name))
		line(card+"architecture", labelText(c.Architecture))
		line(card+"backend", labelText(c.Backends[0]))
		line(card+"memory", whose(c.Unified))
		if c.VRAMBytes != nil && !c.Unified {
			line(card+"memory-bytes", positive(*c.VRAMBytes))
		}
		line(card+"bandwidth-class", bandwidthClass(c.BandwidthBytesPerS))
	}
	names := map[string]string{}
	for _, f := range fits {
		name := labelName(f.Model)
		if names[name] != "" {
			return fmt.Errorf("%s and %s would both have the label vlmem-fits-%s: name one of them", names[name], f.Model, name)
		}
		if names[name] = f.Model; len(f.Fits) > 0 {
			line("fits-"+name, labelText(f.Precision))
			line("fits-"+name+"-context", fmt.Sprint(f.Context))
			line("fits-"+name+"-layers", fmt.Sprint(f.Layers))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// whose is the memory of a card.
func whose(shared bool) string {
	if shared {
		return "shared"
	}
	return "own"
}

// labelName makes a model's name a part of a label's, which is as long as a value and has its characters.
func labelName(model string) string {
	const rest = len("vlmem-fits-") + len("-context")
	name := strings.ToLower(labelText(path.Base(filepath.ToSlash(model))))
	return strings.Trim(name[:min(len(name), labelLength-rest)], "-_.")
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
