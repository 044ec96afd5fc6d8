// Package ptx holds vlmem's GPU kernels, attention and the matrix product, as PTX for compute capability 6.1.
//
// They are our own CUDA C (src/), compiled by clang without the CUDA toolkit and embedded, so that vlmem can time tiles
// on a card with nothing installed but its driver, which compiles PTX for the card at hand: any from 6.1 on. Each
// kernel is one tile, named by its parameters; what is compiled is what src/tiles lists. All shared memory is static,
// so that it can be checked without a card; registers.csv is what NVIDIA's assembler says each kernel takes on sm_61.
//
// Without a card the tests hold the kernels to this: the PTX names its version and target, declares the entry points
// that its tiles should have, and as much shared memory as package tiling says; clang 14, where it is installed,
// compiles the sources to the very same text; and compiled for the CPU, with a fiber for each thread of a block, the
// kernels agree with a float64 reference to 1e-4.
package ptx

//go:generate sh src/generate.sh

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/csv"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
)

//go:embed *.ptx.gz registers.csv
var files embed.FS

// Merge is the entry point that joins the parts of split keys, in the module of the matrix product:
//
//	merge_splits(partial, state, o *float32, rows, d, splits int32), a block of 128 threads for each row
const Merge = "merge_splits"

// Attention is one compiled attention kernel. Its launch takes a grid of row blocks x KV heads x splits and
//
//	q *float32, k, v *KV, o, partial, state *float32, rows, keys int32, scale float32
//
// where rows is the query rows of one KV head, scale is log2(e)/sqrt(head_dim), and partial (splits x heads x rows x d)
// and state (splits x heads x rows x 2) are written instead of o where there is more than one split.
type Attention struct {
	Entry     string
	HeadDim   int
	Tile      tiling.AttentionTile
	KV        profile.DType
	Registers int // per thread on sm_61
}

// Product is one compiled matrix product. Its launch takes a grid of column blocks x row blocks and
//
//	a, b, c *float32, m, n, k int32
type Product struct {
	Entry     string
	Tile      tiling.MatMulTile
	Registers int
}

var attentionEntry = regexp.MustCompile(`^attention_d(\d+)_q(\d+)_kv(\d+)_s(\d+)_t(\d+)_l(\d+)_(fp16|fp32)$`)
var productEntry = regexp.MustCompile(`^product_m(\d+)_n(\d+)_k(\d+)_t(\d+)x(\d+)$`)

// Attentions lists the attention kernels for one head dimension, or all for 0.
func Attentions(headDim int) ([]Attention, error) {
	var list []Attention
	err := entries(attentionEntry, func(name string, n []int, kv string, registers int) {
		k := Attention{name, n[0], tiling.AttentionTile{BlockQ: n[1], BlockKV: n[2], Slice: n[3], Threads: n[4], Lanes: n[5],
			Split: 1}, profile.DType(kv), registers}
		if headDim == 0 || headDim == k.HeadDim {
			list = append(list, k)
		}
	})
	return list, err
}

// Products lists the matrix products.
func Products() ([]Product, error) {
	var list []Product
	err := entries(productEntry, func(name string, n []int, _ string, registers int) {
		threads := n[0] / n[3] * n[1] / n[4]
		list = append(list, Product{name, tiling.MatMulTile{BlockM: n[0], BlockN: n[1], BlockK: n[2], ThreadM: n[3],
			ThreadN: n[4], Threads: threads}, registers})
	})
	return list, err
}

// entries calls yield for each kernel of registers.csv whose name has the form, with the numbers in it and its last
// word.
func entries(form *regexp.Regexp, yield func(name string, n []int, word string, registers int)) error {
	data, err := files.ReadFile("registers.csv")
	if err != nil {
		return err
	}
	rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return fmt.Errorf("reading registers.csv: %w", err)
	}
	for _, row := range rows[1:] {
		fields := form.FindStringSubmatch(row[0])
		if fields == nil {
			continue
		}
		var n []int
		for _, f := range fields[1:] {
			if v, err := strconv.Atoi(f); err == nil {
				n = append(n, v)
			}
		}
		registers, err := strconv.Atoi(row[1])
		if err != nil {
			return fmt.Errorf("reading registers.csv: %s: %w", row[0], err)
		}
		yield(row[0], n, fields[len(fields)-1], registers)
	}
	return nil
}

// Modules lists the embedded modules: one for each head dimension and one for the matrix product and the merging pass.
func Modules() []string {
	all, err := files.ReadDir(".")
	if err != nil {
		panic(err) // embedded
	}
	var names []string
	for _, f := range all {
		if name, ok := strings.CutSuffix(f.Name(), ".ptx.gz"); ok {
			names = append(names, name)
		}
	}
	return names
}

// ModuleOf names the module that holds an entry point.
func ModuleOf(entry string) string {
	if fields := attentionEntry.FindStringSubmatch(entry); fields != nil {
		return "attention_" + fields[1]
	}
	return "product"
}

// Source is the PTX of one module.
func Source(module string) (string, error) {
	data, err := files.ReadFile(module + ".ptx.gz")
	if err != nil {
		return "", fmt.Errorf("reading PTX: no module %q", module)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return "", fmt.Errorf("reading PTX of %s: %w", module, err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("reading PTX of %s: %w", module, err)
	}
	return string(text), nil
}
