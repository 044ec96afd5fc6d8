package cachesim

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPredictions holds what docs/tiling.md says of an i5-10210U: the tiles that the model chooses for one thread, and
// the misses of each kernel with them and without.
func TestPredictions(t *testing.T) {
	if testing.Short() {
		t.Skip("replays some 400 million accesses")
	}
	hardware, err := profiles.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	tiles, err := tiling.CPU(*hardware.CPU, nil, tiling.CPUWork{HeadDim: 128, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	v := kernel.For(hardware.CPU.ISA)
	blocks := kernel.Blocks{MC: tiles.SGEMM.MC, NC: tiles.SGEMM.NC, KC: tiles.SGEMM.KC}
	rows := tiles.Attention
	attention := kernel.AttentionBlocks{Queries: rows.BlockQ, Keys: rows.BlockKV}
	image := kernel.PatchShape{Planes: 6, Height: 704, Width: 1280, Size: 16, Merge: 2}

	const m, n, tokens, headDim, square = 256, 1536, 768, 128, 2048 // B is 9 MiB, more than L3
	lines := make([]string, 8)
	t.Run("replays", func(t *testing.T) {
		for i, c := range []struct {
			name   string
			replay func(h *Hierarchy) []Counts
		}{
			{fmt.Sprintf("sgemm %d x %d x %d, mc %d, nc %d, kc %d", m, n, n, blocks.MC, blocks.NC, blocks.KC),
				func(h *Hierarchy) []Counts {
					return Multiply(h, v, kernel.Tiled, m, n, n, blocks)
				}},
			{fmt.Sprintf("sgemm %d x %d x %d, untiled", m, n, n), func(h *Hierarchy) []Counts {
				return Multiply(h, v, kernel.Untiled, m, n, n, kernel.Blocks{})
			}},
			{fmt.Sprintf("attention %d x %d x %d, block_q %d, block_kv %d", tokens, tokens, headDim, attention.Queries,
				attention.Keys), func(h *Hierarchy) []Counts {
				return Attention(h, v, kernel.Tiled, tokens, tokens, headDim, attention)
			}},
			{fmt.Sprintf("attention %d x %d x %d, untiled", tokens, tokens, headDim), func(h *Hierarchy) []Counts {
				return Attention(h, v, kernel.Untiled, tokens, tokens, headDim, kernel.AttentionBlocks{})
			}},
			{fmt.Sprintf("transpose %d x %d, block 16", square, square),
				func(h *Hierarchy) []Counts { return Transpose(h, square, square, 16) }},
			{fmt.Sprintf("transpose %d x %d, untiled", square, square),
				func(h *Hierarchy) []Counts { return Transpose(h, square, square, square) }},
			{"patches of a 1280 x 704 image, block 1", func(h *Hierarchy) []Counts { return Patches(h, image, 1) }},
			{"patches of a 1280 x 704 image, untiled", func(h *Hierarchy) []Counts { return Patches(h, image, 40) }},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				h, err := Of(*hardware.CPU)
				if err != nil {
					t.Fatal(err)
				}
				lines[i] = missesRow(c.name, c.replay(h))
			})
		}
	})
	table := "| kernel | L1 | L2 | L3 | from memory |\n|---|---|---|---|---|\n" + strings.Join(lines, "\n") + "\n"
	holdTable(t, table)
}

// missesRow is a row of the table.
func missesRow(name string, levels []Counts) string {
	line := "| " + name
	for _, l := range levels {
		line += fmt.Sprintf(" | %.3f %%", 100*float64(l.Misses)/float64(levels[0].Accesses))
	}
	return line + fmt.Sprintf(" | %s |", units.Bytes(64*levels[2].Misses))
}

// holdTable holds the table of docs/tiling.md to one.
func holdTable(t *testing.T, table string) {
	t.Helper()
	const golden = "../../../docs/tiling.md"
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- misses of an i5-10210U, by go test -update -->\n", "<!-- end -->\n"
	head, rest, found := strings.Cut(string(text), begin)
	old, tail, closed := strings.Cut(rest, end)
	switch {
	case !found || !closed:
		t.Fatalf("%s has no place for the table", golden)
	case old == table:
	case *update:
		if err := os.WriteFile(golden, []byte(head+begin+table+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s says\n%sthe simulator\n%s", golden, old, table)
	}
}
