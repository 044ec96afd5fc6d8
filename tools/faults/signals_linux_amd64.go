package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	signals "os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// signalled says how long the slowest command took to end, how many ended by the signal, and how many of them later
// than soon: with the command, and with how long it took to its last line and from there to its end, which is the
// system's.
type signalled struct {
	ended, early, whole int
	slowest             time.Duration
	of                  string
	late                []string
}

// soon is what a person takes for at once.
const soon = 300 * time.Millisecond

// interrupt sends SIGINT and SIGTERM to every command at random moments of a run of usual length: it must end with 130
// or 143 and one line, files as they were or whole, and nothing left behind. How long it took is told, not judged: a
// busy machine starts nothing in time.
func (b *bench) interrupt(times int) error {
	place := filepath.Join(b.folder, "interrupted")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return err
	}
	out := filepath.Join(place, "file")
	if signals.Ignored(os.Interrupt) { // as in a background; what is caught here is not ignored in programs started
		signals.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	for signal, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		var s signalled
		for _, command := range slices.Concat(commands, longer) {
			begun := time.Now()
			result, err := b.unharmed(command, out)
			if err != nil {
				return err
			}
			usual := time.Since(begun)
			for range times {
				if err := b.interruptOne(&s, signal, want, command, out, result, usual); err != nil {
					return err
				}
			}
		}
		fmt.Printf("%-16v %4d runs of %d commands ended by it, %d of them before they listened, %d were done before; %d "+
			"took longer than %v, the slowest %v: %s\n", signal, s.ended, len(commands)+len(longer), s.early, s.whole,
			len(s.late), soon, s.slowest.Round(time.Millisecond), s.of)
		for _, line := range s.late {
			fmt.Println("    late: ", line)
		}
	}
	return nil
}

// longer are commands that take a while, and all those whose calls are not failed.
var longer = [][]string{
	{"bench", "--image", "320x240", "--decode", "4", "--allocators", "vlmem,bestfit", "--touch=false", "--format", "json"},
	{"bench", "tiles", "--shapes", "256x256x256", "--format", "json"},
	{"bench", "streams", "--on", "sim", "--hardware", "gtx-1080-ti", "--repeats", "3", "--format", "json"},
	{"merge", "SHARD0", "SHARD1", "--format", "json"}, {"merge", "SEEDS0", "SEEDS1", "--format", "yaml"},
	{"fleet", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b", "--format", "json"},
	{"trace", "plan", "TRACE", "--format", "csv"}, {"trace", "gen", "--mix", "documents", "--requests", "40"},
	{"trace", "import", "RECORDING"}, {"trace", "export", "TRACE"}, {"explain", "RECORDING", "--format", "json"},
	{"verify", "CONFIG", "--seeds", "20", "--format", "json"},
	{"advise", "--hardware", "i5-10210u+gtx-1080", "--format", "json"},
	{"advise", "--for", "llama-server", "--hardware", "i5-10210u+gtx-1080"},
	{"advise", "--for", "pytorch", "--image", "64x64", "--context", "256", "--seeds", "2"},
	{"advise", "--compare", "--hardware", "i5-10210u", "--format", "json"},
	{"gate", "--for", "vllm", "--model", "qwen3-vl-4b", "--hardware", "rtx-4090", "--format", "json"},
	{"probe", "--format", "json"}, {"watch", "--interval", "50ms", "--timeout", "500ms", "--format", "json"},
	{"run", "--interval", "20ms", "--save", "OUT", "--", "sleep", "0.4"},
}

// live are the commands whose results no two runs share.
var live = []string{"probe", "watch", "bench", "verify", "run"}

// said is how often a run says that a signal ended it: vlmem, or, told by run, the program whose signal it was.
func said(stderr string) int {
	return strings.Count(stderr, "vlmem: ended by a signal: ") + strings.Count(stderr, "\nended by SIG")
}

// wholeAs is whether data is as whole as a result of the same command: JSON to its end where that is JSON, else lines,
// and no less than half as much.
func wholeAs(result, data []byte) bool {
	if isJSON(result) {
		return isJSON(data)
	}
	return bytes.HasSuffix(data, []byte("\n")) && len(data) > len(result)/2
}

// isJSON is whether data is one JSON document, or several.
func isJSON(data []byte) bool {
	documents := json.NewDecoder(bytes.NewReader(data))
	for n := 0; ; n++ {
		var document json.RawMessage
		if err := documents.Decode(&document); err != nil {
			return n > 0 && errors.Is(err, io.EOF)
		}
	}
}

func (b *bench) interruptOne(s *signalled, signal syscall.Signal, want int, command []string, out string, whole []byte,
	usual time.Duration) error {
	if err := os.WriteFile(out, []byte("old"), 0o600); err != nil {
		return err
	}
	r, err := b.signal(signal, b.line(command, out), time.Duration(rand.Int64N(int64(usual))))
	if err != nil {
		return err
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		return err
	}
	kept := string(data) == "old" || bytes.Equal(data, whole) ||
		slices.Contains(live, command[0]) && wholeAs(whole, data)
	why := ""
	switch {
	case len(left) != 1:
		why = fmt.Sprintf("left behind: %v", left)
	case !kept:
		why = "half a file"
	case r.exit == want && !r.early && said(r.stderr) != 1:
		why = "not one line that says so"
	case r.exit == want:
		s.add(command, r)
		return nil
	case r.exit != 0 || string(data) == "old":
		why = fmt.Sprintf("exit %d", r.exit)
	default:
		s.whole++
		return nil
	}
	b.failures++
	fmt.Printf("BROKEN  %v to %v: %s; exit %d, %.300q\n", signal, command, why, r.exit, r.stderr)
	return nil
}

// ending is how a run ended after a signal.
type ending struct {
	exit       int
	early      bool // its handler did not stand yet, so that the signal ended it in the system's way
	stderr     string
	line, took time.Duration // from the signal to the last that it said, and to its end
	after      time.Duration // from its start to the signal
}

// signal starts the program and sends it a signal after a while.
func (b *bench) signal(signal syscall.Signal, args []string, after time.Duration) (ending, error) {
	var out stamped
	cmd := exec.Command(b.binary, args...)
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		return ending{}, err
	}
	time.Sleep(after)
	sent := time.Now()
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
	r := ending{took: time.Since(sent), exit: cmd.ProcessState.ExitCode(), stderr: string(out.text),
		line:  out.last.Sub(sent),
		after: after}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.exit, r.early, r.line = 128+int(status.Signal()), true, 0
	}
	return r, nil
}

// stamped is what a program says, and when it last did.
type stamped struct {
	text []byte
	last time.Time
}

func (s *stamped) Write(p []byte) (int, error) {
	s.last = time.Now()
	s.text = append(s.text, p...)
	return len(p), nil
}

// add counts a run that a signal ended.
func (s *signalled) add(command []string, r ending) {
	s.ended++
	if r.early {
		s.early++
	}
	if r.took > s.slowest {
		s.slowest, s.of = r.took, strings.Join(command[:min(2, len(command))], " ")
	}
	if r.took > soon {
		s.late = append(s.late, fmt.Sprintf("%.60s: %v after its start, %v to its last line, %v to its end",
			strings.Join(command, " "), r.after.Round(time.Millisecond), r.line.Round(time.Millisecond),
			r.took.Round(time.Millisecond)))
	}
}
