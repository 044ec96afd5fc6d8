package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// signalled says how long the slowest command took to end, how many ended by the signal, and how many of them later than
// soon.
type signalled struct {
	ended, whole, late int
	slowest            time.Duration
	of                 string
}

// soon is what a person takes for at once.
const soon = 300 * time.Millisecond

// interrupt sends SIGINT and SIGTERM to every command at random moments of a run of usual length: it must end with 130 or
// 143 and one line, files as they were or whole, and nothing left behind. How long it took is told, not judged:
// a busy machine starts nothing in time.
func (b *bench) interrupt(times int) error {
	place := filepath.Join(b.folder, "interrupted")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return err
	}
	out := filepath.Join(place, "file")
	for signal, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		var s signalled
		for _, command := range append(commands, longer...) {
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
		fmt.Printf("%-16v %4d runs ended by it, %d were done before; %d took longer than %v, the slowest %v: %s\n", signal,
			s.ended, s.whole, s.late, soon, s.slowest.Round(time.Millisecond), s.of)
	}
	return nil
}

// longer are commands that take a while, beside those whose calls are failed.
var longer = [][]string{
	{"bench", "--image", "320x240", "--decode", "4", "--allocators", "vlmem,bestfit", "--touch=false", "--format", "json"},
	{"bench", "tiles", "--shapes", "256x256x256", "--format", "json"},
	{"fleet", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b", "--format", "json"},
	{"trace", "plan", "TRACE", "--format", "csv"}, {"trace", "gen", "--mix", "documents", "--requests", "40"},
	{"explain", "RECORDING", "--format", "json"}, {"verify", "CONFIG", "--seeds", "20", "--format", "json"},
	{"advise", "--hardware", "i5-10210u+gtx-1080", "--format", "json"},
	{"advise", "--for", "llama-server", "--hardware", "i5-10210u+gtx-1080"},
	{"advise", "--for", "pytorch", "--image", "64x64", "--context", "256", "--seeds", "2"},
	{"advise", "--compare", "--hardware", "i5-10210u", "--format", "json"},
	{"gate", "--for", "vllm", "--model", "qwen3-vl-4b", "--hardware", "rtx-4090", "--format", "json"},
	{"probe", "--format", "json"},
	{"bench", "streams", "--on", "sim", "--hardware", "gtx-1080-ti", "--repeats", "3", "--format", "json"},
}

// live are the commands whose results no two runs share.
var live = []string{"probe", "watch", "bench", "verify"}

// said begins the line of a run that a signal ended.
const said = "vlmem: ended by a signal: "

func (b *bench) interruptOne(s *signalled, signal syscall.Signal, want int, command []string, out string, whole []byte,
	usual time.Duration) error {
	if err := os.WriteFile(out, []byte("old"), 0o600); err != nil {
		return err
	}
	var stderr bytes.Buffer
	cmd := exec.Command(b.binary, b.line(command, out)...)
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(30*time.Millisecond + time.Duration(rand.Int64N(int64(usual)))) // its handler stands then
	sent := time.Now()
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
	took, code := time.Since(sent), cmd.ProcessState.ExitCode()
	data, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	left, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		return err
	}
	kept := string(data) == "old" || bytes.Equal(data, whole) ||
		slices.Contains(live, command[0]) && len(data) > len(whole)/2
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == signal {
		code = want // before its handler stood
		stderr.Reset()
		stderr.WriteString(said)
	}
	why := ""
	switch {
	case len(left) != 1:
		why = fmt.Sprintf("left behind: %v", left)
	case !kept:
		why = "half a file"
	case code == want && strings.Count(stderr.String(), said) != 1:
		why = "not one line that says so"
	case code == want:
		if s.ended++; took > soon {
			s.late++
		}
		if took > s.slowest {
			s.slowest, s.of = took, strings.Join(command[:min(2, len(command))], " ")
		}
		return nil
	case code != 0 || string(data) == "old":
		why = fmt.Sprintf("exit %d", code)
	default:
		s.whole++
		return nil
	}
	b.failures++
	fmt.Printf("BROKEN  %v to %v: %s; exit %d, %.300q\n", signal, command, why, code, stderr.String())
	return nil
}
