package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
)

// Screen is what a person reads after a configuration was written: the verdict, what else fits and how fast, what to
// download, what starts it and how to check it. config is where the configuration lies, "" where nobody knows.
func Screen(w io.Writer, a advise.Advice, config string) error {
	var b strings.Builder
	for _, line := range a.Headline {
		b.WriteString(Fold(Visible(line)) + "\n")
	}
	b.WriteByte('\n')
	if err := Choices(&b, a.Choices, false); err != nil {
		return err
	}
	if a.Next != nil {
		b.WriteString("\n" + download(a.Next))
		command := strings.Join(a.Next.Command, " \\\n      ")
		if config == "" {
			config = "config.yaml"
		}
		fmt.Fprintf(&b, "start\n  %s\ncheck, with this before that command: it shows what is used beside what was "+
			"predicted\n  vlmem run --config %s --engine %s --\n",
			command, config, a.Budget.Engine.Value)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func download(n *advise.Next) string {
	p := n.Files
	switch {
	case p == nil:
		return "download: no publisher of this model's GGUF is known; llama.cpp's convert_hf_to_gguf.py makes one\n"
	case p.QuantizedFrom != "":
		return fmt.Sprintf("download from %s\n  %s, of which llama-quantize makes %s (%s)\n  %s (%s)\n  llama-quantize %s "+
			"%s %s\n",
			p.Repository, p.QuantizedFrom, p.Type, n.Decoder, p.Tower, n.Tower, p.QuantizedFrom, p.Decoder, p.Type)
	}
	return fmt.Sprintf("download from %s, or let -hf do it\n  %s (%s)\n  %s (%s)\n", p.Repository, p.Decoder, n.Decoder,
		p.Tower, n.Tower)
}
