package advise

import (
	"cmp"

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
	comes := map[string]bool{"model": fetched, // with -hf
		"mmproj": fetched && (tower == "f16" || n.Files.FetchedTower() == n.Files.Tower)}
	for name, argument := range written.Arguments() {
		if !comes[name] {
			n.Command = append(n.Command, argument)
		}
	}
	return &n
}
