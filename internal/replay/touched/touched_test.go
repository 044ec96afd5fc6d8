package touched

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// TestMain is the child too, as the hidden command of the program is.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == Command {
		if err := Serve(os.Stdin, os.Stdout, os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program holds 24 MiB at its peak, in blocks of 8 MiB, and frees them in another order.
func program(t *testing.T) *replay.Program {
	t.Helper()
	tr := &trace.Trace{Name: "three blocks", Slots: 4, Tags: []string{""}}
	held := map[uint32]bool{}
	for i, slot := range []uint32{1, 2, 3, 2, 0, 1, 0, 3} { // named again, it is freed
		e := trace.Event{Op: trace.OpAlloc, Size: 8 << 20, Slot: slot, TimeNs: int64(i)}
		if held[slot] {
			e.Op, e.Size = trace.OpFree, 0
		}
		held[slot] = !held[slot]
		tr.Events = append(tr.Events, e)
	}
	p, err := replay.Compile(tr)
	if err != nil || p.LowerBound != 24<<20 {
		t.Fatalf("%d bytes, %v", p.LowerBound, err)
	}
	return &p
}

// Every allocator that this build has holds the program's blocks and no less, and its child writes every page of them.
func TestInChild(t *testing.T) {
	p := program(t)
	for _, name := range Names {
		if name == "malloc" && !libc.Available {
			continue
		}
		r, err := InChild(t.Context(), p, name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if slack := int64(1 << 20); r.PeakRSS < p.LowerBound-slack || r.Faults == 0 { // what the process let go meanwhile
			t.Errorf("%s: %d bytes resident and %d faults for %d bytes", name, r.PeakRSS, r.Faults, p.LowerBound)
		}
	}
	if _, err := InChild(t.Context(), p, "heap"); err == nil || !strings.Contains(err.Error(), "unknown allocator") {
		t.Errorf("an unknown allocator: %v", err)
	}
}

// Runs take turns, announce each, and end with their context without an error.
func TestTake(t *testing.T) {
	p := program(t)
	all := []Contestant{{Name: "pools", Allocator: "vlmem"}, {Name: "heap", Allocator: "go"}}
	var steps []string
	turns := Turns{Repeats: 2, Patience: 1 << 60, Progress: func(done, of int) {
		steps = append(steps, fmt.Sprintf("%d/%d", done, of))
	}}
	runs, err := turns.Take(t.Context(), p, all)
	if err != nil || len(runs) != 2 || len(runs[0]) != 2 || len(runs[1]) != 2 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	if want := []string{"1/4", "2/4", "3/4", "4/4"}; !slices.Equal(steps, want) {
		t.Errorf("announced %v, want %v", steps, want)
	}
	turns.Patience = 0
	if runs, err = turns.Take(t.Context(), p, all); err != nil || len(runs[0]) != 1 || len(runs[1]) != 1 {
		t.Errorf("without patience: %d runs, %v", len(runs[0]), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if runs, err = turns.Take(ended, p, all); err != nil || len(runs[0]) != 0 {
		t.Errorf("interrupted: %v, %v", runs, err)
	}
	all[1].Allocator = "heap"
	if _, err = turns.Take(t.Context(), p, all); err == nil || !strings.Contains(err.Error(), "running heap") {
		t.Errorf("a contestant that cannot run: %v", err)
	}
}

// What would not fit the memory that is free is left out with a note, and the rest is compared.
func TestCompare(t *testing.T) {
	p := program(t)
	for _, c := range []struct {
		free units.Bytes
		want []string
	}{
		{units.GiB, []string{"vlmem", "go"}},
		{units.Bytes(1.4*float64(p.LowerBound)) + processNeed, []string{"vlmem"}}, // need: vlmem 1.3, go 2.5
		{processNeed, nil},
	} {
		results, notes, err := Compare(t.Context(), p, []string{"vlmem", "go"}, c.free, 1, func(int, int) {})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range results {
			got = append(got, r.Allocator)
			if r.LowerBoundBytes != p.LowerBound || r.PeakRSSBytes == nil || *r.PeakRSSBytes < p.LowerBound {
				t.Errorf("%+v", r)
			}
		}
		if !slices.Equal(got, c.want) || len(notes) != 2-len(c.want) {
			t.Errorf("%v free: %v, want %v; notes %q", c.free, got, c.want, notes)
		}
		for _, note := range notes {
			if !strings.Contains(note, "left out: it would write") {
				t.Errorf("note %q", note)
			}
		}
	}
}

// A child that is killed, as where memory is short, says so; one that complains is quoted by its first line.
func TestChildError(t *testing.T) {
	killed := exec.Command("sh", "-c", "kill -9 $$").Run()
	plain := errors.New("exit status 2")
	for _, c := range []struct {
		err       error
		complaint string
		want      string
	}{
		{killed, "", "killed from outside"}, {killed, "first\nsecond\n", "first"}, {plain, "", "exit status 2"},
		{plain, " panic: x\ngoroutine 1\n", "exit status 2: panic: x"},
	} {
		got := childError(c.err, []byte(c.complaint)).Error()
		if !strings.Contains(got, c.want) || strings.Contains(got, "goroutine") {
			t.Errorf("%v with %q: %s, want %q", c.err, c.complaint, got, c.want)
		}
	}
}
