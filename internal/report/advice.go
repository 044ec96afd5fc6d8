package report

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/advise"
)

// Advice writes a configuration: YAML with the evidence as comments and the headline above, or JSON.
func Advice(w io.Writer, format string, a advise.Advice) error {
	if format == "yaml" {
		for _, line := range a.Headline {
			if _, err := fmt.Fprintf(w, "# %s\n", Visible(line)); err != nil {
				return err
			}
		}
	}
	return Document(w, format, a)
}
