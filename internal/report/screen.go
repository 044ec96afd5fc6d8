package report

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/terminal"
)

// Screen is what a person reads after a configuration was written: the verdict, what else fits and how fast, what to
// download, what starts it and how to check it. config is where the configuration lies, "" where nobody knows.
func Screen(w io.Writer, a advise.Advice, config string) error {
	b := draft{sheet: sheetOf(w)}
	columns := b.sheet.Paragraph()
	lines := a.Now
	if len(lines) == 0 {
		lines = a.Headline
	}
	for i, line := range lines {
		text := Fold(columns, Visible(line))
		if i == 1 {
			text = b.sheet.Paint(standing(a), text)
		}
		b.WriteString(text + "\n")
	}
	b.WriteByte('\n')
	if err := errors.Join(Choices(&b, a.Choices, false), Rooms(&b, a.Choices)); err != nil {
		return err
	}
	if a.Next != nil {
		b.WriteString("\n" + download(b.sheet, a.Next))
		command := strings.Join(a.Next.Command, " \\\n      ")
		if config == "" {
			config = "config.yaml"
		}
		b.WriteString("start\n  " + command + "\n")
		check := "check, with this before that command: it shows what is used beside what was predicted"
		b.WriteString(Fold(columns, check) + "\n")
		b.WriteString(FoldCommands(b.sheet.Columns, fmt.Sprintf("  vlmem run --config %s --engine %s --", config,
			a.Budget.Engine.Value)) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// screenAlone is Screen where the configuration itself is not written.
func screenAlone(w io.Writer, a advise.Advice) error {
	if err := Screen(w, a, ""); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, fold(w, "keep it: the same command with -o config.yaml, or > config.yaml, writes the "+
		"configuration"))
	return err
}

// standing is whether the verdict holds over the whole interval.
func standing(a advise.Advice) terminal.Tone {
	if a.Budget.Doubtful() {
		return terminal.Doubtful
	}
	return terminal.Good
}

func download(sheet terminal.Sheet, n *advise.Next) string {
	columns := sheet.Paragraph()
	p := n.Files
	switch {
	case p == nil:
		return Fold(columns,
			"download: no publisher of this model's GGUF is known; llama.cpp's convert_hf_to_gguf.py makes one") + "\n"
	case p.QuantizedFrom != "":
		return Fold(columns, fmt.Sprintf("download from %s\n  %s, of which llama-quantize makes %s (%s)\n  %s (%s)\n",
			p.Repository, p.QuantizedFrom, p.Type, n.Decoder, p.Tower, n.Tower)) +
			FoldCommands(sheet.Columns, fmt.Sprintf("  llama-quantize %s %s %s\n", p.QuantizedFrom, p.Decoder, p.Type))
	}
	text := fmt.Sprintf("download from %s, or let -hf do it\n  %s (%s)\n  %s (%s)\n", p.Repository, p.Decoder,
		n.Decoder, p.Tower, n.Tower)
	if other := p.FetchedTower(); other != "" && other != p.Tower {
		text += "  -hf takes " + other + " by itself, which is smaller\n"
	}
	return Fold(columns, text)
}
