//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// terminalOf is the two ends of a terminal of so many columns.
func terminalOf(t *testing.T, columns int) (master, screen *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: uint16(columns)})
	}
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	if screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	return master, screen
}

// onTerminal runs a command on a terminal of so many columns and returns what it shows there.
func onTerminal(t *testing.T, columns int, variables []string, args ...string) (shown string, code int) {
	t.Helper()
	master, screen := terminalOf(t, columns)
	defer master.Close()
	lookup := func(name string) (string, bool) {
		for _, v := range append(variables, "XDG_CONFIG_HOME=/nonexistent") {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
	var all bytes.Buffer
	read := make(chan struct{})
	go func() { _, _ = io.Copy(&all, master); close(read) }() // ends with EIO when the other end is closed
	env := &environment{stdin: strings.NewReader(""), stdout: screen, stderr: screen, lookup: lookup}
	code = run(context.Background(), env, args)
	screen.Close()
	<-read
	return strings.ReplaceAll(all.String(), "\r\n", "\n"), code
}

// TestTerminalsOfAllWidths: help, tables, paragraphs and errors keep to the terminal.
func TestTerminalsOfAllWidths(t *testing.T) {
	config := filepath.Join(t.TempDir(), "config.yaml")
	if got := vlmem(t, nil, "advise", "--hardware", "i5-10210u+gtx-1080", "--seeds", "1", "--image", "64x64", "-o",
		config); got.code != 0 {
		t.Fatal(got.stderr)
	}
	lines := [][]string{{"profiles"}, {"estimate", "--model", "qwen3-vl-4b", "--hardware", "i5-10210u+gtx-1080"},
		{"gate", "--for", "vllm", "--model", "qwen3-vl-8b", "--hardware", "rtx-4090"}, {"verify", config, "--seeds", "1"},
		{"fleet", "i5-10210u+gtx-1080", "rtx-4090", "--model", "qwen3-vl-4b", "--model", "qwen3-vl-8b"},
		{"advise", "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b", "--seeds", "1", "--image", "64x64"},
		{"advise", "--hardware", "i5-10210u+gtx-1080", "--compare", "--model", "qwen3-vl-4b"}, {"probe", "--reported"},
		{"watch", "--once"},
		{"bench", "tiles", "--hardware", "i5-10210u+gtx-1080"}, {"advice"}, {"estimate", "--hardware", "gtx-1090"}}
	var visit func(*cobra.Command, []string)
	visit = func(c *cobra.Command, path []string) {
		lines = append(lines, append(path[:len(path):len(path)], "--help"))
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				visit(sub, append(path[:len(path):len(path)], sub.Name()))
			}
		}
	}
	visit(newRootCmd(&environment{}), nil)
	for _, columns := range []int{60, 80, 160} {
		for _, args := range lines {
			shown, _ := onTerminal(t, columns, []string{"NO_COLOR=1"}, args...)
			if strings.TrimSpace(shown) == "" || strings.Contains(shown, "\x1b") {
				t.Errorf("%v shows %q", args, shown)
			}
			for line := range strings.Lines(shown) {
				line = strings.TrimRight(line, "\n")
				if utf8.RuneCountInString(line) > columns && len(strings.Fields(line)) > 1 {
					t.Errorf("%v at %d columns: %d: %q", args, columns, utf8.RuneCountInString(line), line)
				}
			}
		}
	}
}

// TestColourHasItsSwitches: outcomes have a colour on a terminal, and none with NO_COLOR, on a dumb one or in a pipe.
func TestColourHasItsSwitches(t *testing.T) {
	gate := []string{"gate", "--for", "vllm", "--model", "qwen3-vl-32b", "--hardware", "rtx-4090"}
	if shown, _ := onTerminal(t, 100, nil, gate...); !strings.Contains(shown, "\x1b[31mbroken\x1b[0m") {
		t.Errorf("no colour: %q", shown)
	}
	for _, off := range []string{"NO_COLOR=1", "TERM=dumb"} {
		if shown, _ := onTerminal(t, 100, []string{off}, gate...); strings.Contains(shown, "\x1b") {
			t.Errorf("%s: %q", off, shown)
		}
	}
	if got := vlmem(t, nil, gate...); strings.Contains(got.stdout, "\x1b") || got.code != exitGate {
		t.Errorf("in a pipe: exit %d, %q", got.code, got.stdout)
	}
}
