package tiling

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

var update = flag.Bool("update", false, "rewrite the tables of docs/tiling.md")

// TestDocumentedChoices holds the table of docs/tiling.md.
func TestDocumentedChoices(t *testing.T) {
	var table strings.Builder
	table.WriteString("| card | head_dim | block_q x block_kv | slice | threads | shared | blocks/SM | limit | " +
		"predicted | rule | llama.cpp |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range []string{"gtx-1080", "mx350"} {
		hardware, err := profiles.Hardware(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range headDims {
			c, err := Attention(hardware.GPUs[0], d, prefill(profile.FP16))
			if err != nil {
				t.Fatal(err)
			}
			rule, llama := "refused", "no row"
			if c.Rule.Refused == "" {
				rule = fmt.Sprintf("%.2f (T = %d)", c.Rule.Plan.Seconds/c.Seconds, c.Rule.Plan.BlockQ)
			}
			for _, o := range c.Others {
				llama = fmt.Sprintf("%.2f", o.Plan.Seconds/c.Seconds)
			}
			fmt.Fprintf(&table, "| %s | %d | %d x %d | %d | %d | %s B | %d | %s | %.1f ms | %s | %s |\n", name, d, c.BlockQ,
				c.BlockKV, c.Slice,
				c.Threads, units.Grouped(int64(c.SharedMemoryBytes)), c.BlocksPerSM, c.Limit, 1e3*c.Seconds, rule, llama)
		}
	}
	const golden = "../../docs/tiling.md"
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- choices, by go test -update -->\n", "<!-- end of choices -->\n"
	head, rest, found := strings.Cut(string(text), begin)
	old, tail, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Fatalf("%s has no place for the table", golden)
	case old == table.String():
	case *update:
		if err := os.WriteFile(golden, []byte(head+begin+table.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s says\n%sthe model\n%s", golden, old, table.String())
	}
}
