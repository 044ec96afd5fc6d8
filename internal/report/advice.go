package report

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/advise"
)

// Advice writes a configuration: YAML with the evidence as comments and the headline above, JSON, or as a table the
// screen in its place.
func Advice(w io.Writer, format string, a advise.Advice) error {
	if format == "table" {
		return screenAlone(w, a)
	}
	if format == "yaml" {
		for _, line := range a.Headline {
			if _, err := fmt.Fprintf(w, "# %s\n", Visible(line)); err != nil {
				return err
			}
		}
	}
	return Document(w, format, a)
}
