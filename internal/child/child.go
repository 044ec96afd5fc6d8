// Package child starts a program and follows it: its whole process tree, its memory, its end.
//
// # The tree
//
// Where this process may, the program gets a control group of its own, and the tree is who is in it. Elsewhere the tree
// is the program's descendants. Descendants that their parents left are adopted: this process makes itself their
// subreaper, so that a server that forks twice does not get away unseen. Those that outlive the program are named in
// the end and left alone.
//
// # Memory
//
// Every sample reads /proc/PID/status of each process, which costs the program nothing. Its proportional share needs
// smaps_rollup, for which the kernel walks the process's page tables under a lock that the process also needs, at 0.1
// to 0.3 us a page: a third of a second for 4 GiB. It is asked where a walk, by what the last one took a page, keeps
// all of them within 5 ms and 0.2 % of the processor time that the program takes. Following as a whole takes 20 ms at
// once and then at most 0.4 % of it: beyond that, beside a program that waits or on a machine that is busy, samples
// are taken more rarely than the interval says, yet every two seconds at least.
//
// Once a second, and every ten where following took its share, are read the page cache of the group and faults, stalls,
// and what the tree holds on NVIDIA's cards, of NVML, by process. Without it, without cgo, or in a container that
// numbers its processes anew, nothing is known of cards.
//
// # Its end
//
// A SIGKILL that nobody here sent is the kernel's for memory where a counter of such kills went up: the program's own
// group's, else the group's that it shares, else the machine's. Which one is in Ended.Witness.
package child

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// ErrUnsupported is in the chain where the system cannot follow programs.
var ErrUnsupported = verdict.Unable.Of(errors.New("following a program needs Linux"))

// ErrNoGroup is in the chain where a limit was asked for and no control group can be made.
var ErrNoGroup = verdict.Unable.Of(errors.New("no control group can be made here"))

// Options say what to start and how.
type Options struct {
	Command  []string
	Set      []string // NAME=value, over this process's environment
	Binding  Binding
	Stdin    *os.File
	Stdout   *os.File
	Stderr   *os.File
	Tap      io.Writer   // takes a copy of the output that is not a terminal; nil for none
	Limit    units.Bytes // of a control group of its own, 0 for none
	Interval time.Duration

	Management string // NVML's library, "" for the system's
}
