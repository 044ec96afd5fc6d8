package report

import (
	"cmp"
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
	var f features
	if m := h.Measured; m != nil {
		f.line("llc-kept-bytes", positive(m.LLCBytes))
		f.line("memory-bandwidth-class", bandwidthClass(m.DRAMReadBytesPerS))
	}
	if m := h.Memory; m != nil {
		room := m.Room(true)
		f.line("memory-bytes", positive(room.Capacity))
		f.line("memory-binds", profile.KindOf(room.Name)) // without the group or nodes, whose names change
	}
	f.gpus(h.GPUs)
	f.cards(h.Cards)
	if err := f.models(fits); err != nil {
		return err
	}
	_, err := io.WriteString(w, f.String())
	return err
}

// features is a feature file as it is written.
type features struct{ strings.Builder }

// line adds a label, none where there is no value.
func (f *features) line(name, value string) {
	if value != "" {
		fmt.Fprintf(f, "vlmem-%s=%s\n", name, value)
	}
}

func (f *features) gpus(list []profile.GPU) {
	f.line("gpus", fmt.Sprint(len(list)))
	for i, g := range list {
		gpu := fmt.Sprintf("gpu-%d-", i)
		f.line(gpu+"name", labelText(g.Name))
		f.line(gpu+"compute-capability", labelText(g.ComputeCapability))
		f.line(gpu+"backend", labelText(g.Backend))
		f.line(gpu+"memory", whose(g.UnifiedMemory))
		f.line(gpu+"memory-bytes", positive(g.MemoryBytes))
		f.line(gpu+"bandwidth-class", bandwidthClass(g.BandwidthBytesPerS))
	}
}

func (f *features) cards(list []profile.Card) {
	foreign := slices.DeleteFunc(slices.Clone(list), func(c profile.Card) bool {
		return c.Visible || len(c.Backends) == 0 || slices.Contains(c.Backends, "cuda")
	})
	shared := 0
	for _, c := range foreign {
		if c.Unified {
			shared++
		}
	}
	if len(foreign) > 0 {
		f.line("cards", fmt.Sprint(len(foreign)-shared))
		f.line("cards-shared", fmt.Sprint(shared))
	}
	for i, c := range foreign {
		card := fmt.Sprintf("card-%d-", i)
		f.line(card+"vendor", labelText(c.Vendor))
		f.line(card+"name", labelText(c.Name))
		f.line(card+"architecture", labelText(c.Architecture))
		f.line(card+"backend", labelText(c.Backends[0]))
		f.line(card+"memory", whose(c.Unified))
		if c.VRAMBytes != nil && !c.Unified {
			f.line(card+"memory-bytes", positive(*c.VRAMBytes))
		}
		f.line(card+"bandwidth-class", bandwidthClass(c.BandwidthBytesPerS))
	}
}

func (f *features) models(fits []fleet.Answer) error {
	names := map[string]string{}
	for _, a := range fits {
		name := labelName(a.Model)
		if names[name] != "" {
			return fmt.Errorf("%s and %s would both have the label vlmem-fits-%s: name one of them", names[name], a.Model, name)
		}
		if names[name] = a.Model; len(a.Fits) > 0 {
			f.line("fits-"+name, labelText(a.Precision))
			f.line("fits-"+name+"-context", fmt.Sprint(a.Context))
			f.line("fits-"+name+"-layers", fmt.Sprint(a.Layers))
		}
	}
	return nil
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
	name := strings.ToLower(cmp.Or(labelText(path.Base(filepath.ToSlash(model))), labelText(model), "model"))
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
