package advise

import (
	"cmp"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// Next is the way from a configuration to a running server.
type Next struct {
	Files   *engine.Published `json:"files,omitempty"`         // nil: no publisher is known
	Decoder units.Bytes       `json:"decoder_bytes,omitempty"` // of the file's tensors
	Tower   units.Bytes       `json:"tower_bytes,omitempty"`
	Command []string          `json:"command"` // the server and its arguments
}

// next is what starts what a budget was reckoned for; nil where that is vlmem's own pools.
func (in *Inputs) next(b *Budget) *Next {
	if in.Engine == "" {
		return nil
	}
	at := *in
	at.Precision, at.Want = b.Precision.Value, Want{}
	_, d, err := at.serve()
	if err != nil {
		return nil
	}
	written, err := engine.Write(in.Engine, d.Settings)
	if err != nil {
		return nil
	}
	n := Next{Command: []string{in.Engine}}
	tower := cmp.Or(d.Options.ProjectorQuant, "f16")
	if p, ok := engine.PublishedGGUF(&in.Model, d.Memory.Quant, tower); ok {
		n.Files = &p
		if n.Decoder, n.Tower, err = engine.FileBytes(&in.Model, d.Memory.Quant, tower); err != nil {
			return nil
		}
	}
	fetched := n.Files != nil && n.Files.QuantizedFrom == ""
	if fetched {
		n.Command = append(n.Command, "-hf "+n.Files.Repository+":"+n.Files.Type)
	}
	for line := range strings.Lines(written.Files[0].Content) {
		line = strings.TrimSpace(line)
		taken := tower == "f16" || fetched && n.Files.FetchedTower() == n.Files.Tower
		named := taken && strings.HasPrefix(line, "--mmproj ")
		if strings.HasPrefix(line, "#") || fetched && (strings.HasPrefix(line, "--model ") || named) {
			continue
		}
		n.Command = append(n.Command, line)
	}
	return &n
}
