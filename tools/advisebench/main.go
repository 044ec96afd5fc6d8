// Command advisebench compares what two builds of vlmem take for the same advice:
//
//	go run ./tools/advisebench OLD NEW
//
// It runs the README's commands with one build and the other in turn, so that whatever else the machine does hits both,
// and prints for each the median over the pairs of user CPU time and of peak resident memory, the median of the pairs'
// ratios, and whether both wrote the same. What is measured anew at each run (this machine) is not held to be the same.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// commands are the README's.
var commands = []command{
	{"named hardware", []string{"advise", "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b"}, false},
	{"this machine", []string{"advise"}, true},
	{"an engine's settings", []string{"advise", "--for", "llama-server", "--hardware", "i5-10210u+gtx-1080"}, false},
}

type command struct {
	name     string
	args     []string
	measured bool // this machine is timed, so that no two outputs are the same
}

// run is what one run took: seconds of user CPU, bytes at most resident, and its output.
type run struct {
	cpu, rss float64
	out      []byte
}

func main() {
	pairs := flag.Int("pairs", 9, "pairs of runs")
	flag.Parse()
	if flag.NArg() != 2 || *pairs < 1 {
		fmt.Fprintln(os.Stderr, "advisebench: give two builds of vlmem: go run ./tools/advisebench OLD NEW")
		os.Exit(2)
	}
	fmt.Printf("%-22s %28s %34s  %s\n", "", "user CPU, s", "peak memory, MiB", "output")
	for _, c := range commands {
		if err := c.compare(flag.Arg(0), flag.Arg(1), *pairs); err != nil {
			fmt.Fprintln(os.Stderr, "advisebench:", err)
			os.Exit(3)
		}
	}
}

// compare prints a row.
func (c command) compare(older, newer string, pairs int) error {
	var runs [2][]run
	for range pairs {
		for i, program := range []string{older, newer} {
			r, err := c.once(program)
			if err != nil {
				return err
			}
			runs[i] = append(runs[i], r)
		}
	}
	row := func(of func(run) float64) string {
		var ratios []float64
		var values [2][]float64
		for p := range pairs {
			for i := range values {
				values[i] = append(values[i], of(runs[i][p]))
			}
			ratios = append(ratios, values[1][p]/values[0][p])
		}
		return fmt.Sprintf("%7.3f %7.3f  x %.3f", median(values[0]), median(values[1]), median(ratios))
	}
	same := "the same"
	switch {
	case c.measured:
		same = "measured anew"
	case !bytes.Equal(runs[0][0].out, runs[1][0].out):
		same = "differs"
	}
	fmt.Printf("%-22s %28s %34s  %s\n", c.name, row(func(r run) float64 { return r.cpu }),
		row(func(r run) float64 { return r.rss / (1 << 20) }), same)
	return nil
}

func (c command) once(program string) (run, error) {
	var out, said bytes.Buffer
	cmd := exec.Command(program, c.args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return run{}, fmt.Errorf("%s %s: %w: %s", program, strings.Join(c.args, " "), err, said.String())
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return run{}, errors.New("this system does not say what a process took")
	}
	return run{cmd.ProcessState.UserTime().Seconds(), float64(usage.Maxrss) * 1024, out.Bytes()}, nil // Linux: KiB
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
