package ptx

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// HeadDims lists the head dimensions that attention is compiled for, ascending.
func HeadDims() ([]int, error) {
	kernels, err := Attentions(0)
	var dims []int
	for _, k := range kernels {
		dims = append(dims, k.HeadDim)
	}
	slices.Sort(dims)
	return slices.Compact(dims), err
}

// Declared is what a module's text says of one entry point.
type Declared struct {
	Name        string
	SharedBytes units.Bytes // static
	MaxThreads  int
}

// Header is what a module's text says of itself.
type Header struct {
	Version string // of PTX
	Target  string
	Entries []Declared
}

var (
	versionLine = regexp.MustCompile(`^\.version (\S+)`)
	targetLine  = regexp.MustCompile(`^\.target (\S+)`)
	entryLine   = regexp.MustCompile(`^\.visible \.entry (\w+)\(`)
	threadsLine = regexp.MustCompile(`^\.maxntid (\d+), 1, 1`)
	sharedLine  = regexp.MustCompile(`^\s*\.shared \.align \d+ \.b8 \w+\[(\d+)\]`)
)

// Parse reads the declarations of PTX text, as clang lays it out.
func Parse(text string) Header {
	var h Header
	number := func(s string) int { n, _ := strconv.Atoi(s); return n } // the patterns match digits alone
	for line := range strings.Lines(text) {
		if m := versionLine.FindStringSubmatch(line); m != nil {
			h.Version = m[1]
		} else if m := targetLine.FindStringSubmatch(line); m != nil {
			h.Target = m[1]
		} else if m := entryLine.FindStringSubmatch(line); m != nil {
			h.Entries = append(h.Entries, Declared{Name: m[1]})
		} else if n := len(h.Entries); n == 0 {
			continue
		} else if m := threadsLine.FindStringSubmatch(line); m != nil {
			h.Entries[n-1].MaxThreads = number(m[1])
		} else if m := sharedLine.FindStringSubmatch(line); m != nil {
			h.Entries[n-1].SharedBytes += units.Bytes(number(m[1]))
		}
	}
	return h
}
