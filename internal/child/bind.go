package child

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Binding is what of the machine a program starts on; zero for all of it.
type Binding struct {
	CPUs       []int
	Nodes      []int // of memory
	Interleave bool  // pages are taken from the nodes in turn; else from the node, and where it is full from others
}

// ParseBinding reads CPUs, such as 0-7,16, and a policy of memory: prefer NODE or interleave NODES. Both may be "".
func ParseBinding(cpus, policy string) (b Binding, err error) {
	if cpus != "" {
		if b.CPUs, err = parseRanges(cpus); err != nil {
			return b, fmt.Errorf("cpus %q: %w", cpus, err)
		}
	}
	if policy == "" {
		return b, nil
	}
	how, nodes, _ := strings.Cut(policy, " ")
	b.Interleave = how == "interleave"
	if b.Nodes, err = parseRanges(nodes); err == nil && (!b.Interleave && (how != "prefer" || len(b.Nodes) != 1)) {
		err = errors.New("want prefer NODE or interleave NODES")
	}
	if err != nil {
		return b, fmt.Errorf("memory_policy %q: %w", policy, err)
	}
	return b, nil
}

// mostNumber is above every CPU and node that Linux counts.
const mostNumber = 8192

// parseRanges reads ascending numbers as the kernel writes them: 0-3,8.
func parseRanges(text string) (list []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		from, err := strconv.Atoi(low)
		to := from
		if ranged && err == nil {
			to, err = strconv.Atoi(high)
		}
		if err != nil || from < 0 || to < from || to >= mostNumber || len(list) > 0 && from <= list[len(list)-1] {
			return nil, errors.New("want ascending numbers, such as 0-7,16")
		}
		for n := from; n <= to; n++ {
			list = append(list, n)
		}
	}
	return slices.Clip(list), nil
}
