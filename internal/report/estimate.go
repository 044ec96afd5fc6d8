package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// estimated is an estimate as a document: the memory, whether it fits where a machine was named, and the speed where it
// is known.
type estimated struct {
	engine.Memory `yaml:",inline"`
	Verdict       string          `yaml:"verdict,omitempty" json:"verdict,omitempty"`
	Speed         *speed.Forecast `yaml:"speed,omitempty" json:"speed,omitempty"`
}

// Estimate renders what an engine will allocate, the verdict where there is one, and how fast it will run where that is
// known.
func Estimate(w io.Writer, format string, mem *engine.Memory, verdict string, fast *speed.Forecast) error {
	if format != "table" {
		return Document(w, format, estimated{*mem, verdict, fast})
	}
	fmt.Fprintf(w, "%s\n\n", fold(w, fmt.Sprintf("%s on %s %s (%s), KV cache %s, %s tokens, on the %s",
		Visible(mem.Model), mem.Engine, mem.Version, Visible(mem.Quant), Visible(mem.KVType),
		units.Grouped(int64(mem.ContextTokens)), mem.Device)))
	var rows [][]string
	var notes []string
	for _, i := range mem.Items {
		rows = append(rows, []string{i.Name, i.Where, i.Bytes.String(), interval(i.Low, i.High), i.Source})
		notes = append(notes, i.Why)
	}
	rows = append(rows, []string{"total", "", mem.TotalBytes.String(), interval(mem.LowBytes, mem.HighBytes), ""})
	err := Noted(w, []string{"ITEM", "WHERE", "BYTES", "INTERVAL", "SOURCE"}, rows, append(notes, places(mem)), 2)
	if err != nil {
		return err
	}
	if verdict != "" {
		fmt.Fprintf(w, "\n%s\n", fold(w, verdict))
	}
	if fast == nil {
		return nil
	}
	return Forecast(w, fast)
}

func interval(low, high units.Bytes) string {
	if low == high {
		return "exact"
	}
	return low.String() + " - " + high.String()
}

func places(mem *engine.Memory) string {
	if mem.Device == "cpu" {
		return beside(mem)
	}
	card := ""
	if mem.CardBytes > 0 {
		card = " of " + mem.CardBytes.String()
	}
	text := fmt.Sprintf("%s%s on the device, %s on the host", mem.DeviceBytes, card, mem.HostBytes)
	if more := beside(mem); more != "" {
		text += "; " + more
	}
	return text
}

// beside says what the process holds of the host beside the items, which no total counts, and what only loading maps.
func beside(mem *engine.Memory) string {
	var own, pages units.Bytes
	for _, i := range mem.Own {
		if i.Name == engine.FilePages {
			pages += i.Bytes
		} else {
			own += i.Bytes
		}
	}
	var parts []string
	if own > 0 {
		parts = append(parts, fmt.Sprintf("some %s of the host by the process itself", own))
	}
	if pages > 0 {
		parts = append(parts, fmt.Sprintf("while it loads up to %s of the file's pages, which the kernel can drop", pages))
	}
	if len(parts) == 0 {
		return ""
	}
	return "besides " + strings.Join(parts, ", and ")
}

// Logged renders an estimate and, for people, what a log says beside it.
func Logged(w io.Writer, format string, mem *engine.Memory, v advise.Verification) error {
	if err := Estimate(w, format, mem, "", nil); err != nil || format != "table" {
		return err
	}
	fmt.Fprintln(w)
	return Verification(w, format, v)
}
