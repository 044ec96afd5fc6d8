// Package watch follows the pressure on one machine's memory: it reads the host, its control groups and its cards at
// every tick, feeds a monitor, shows each moment and runs a command at each change of level.
//
// What fails to be read, the host, a control group or a card, keeps its last reading: pressure that can no longer be
// seen has not gone away. Each cause is warned of once. Ticks come from outside; the clock says how old a reading is.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Levels are the names of the levels, rising.
var Levels = []string{pressure.Low.String(), pressure.Medium.String(), pressure.High.String()}

// Moment is one reading and what the monitor made of it.
type Moment struct {
	pressure.Reading
	State   pressure.State
	Before  pressure.Level
	Changed bool // the level did, or this is the first moment
}

// Watcher follows one machine. Its fields are set before the first step.
type Watcher struct {
	Read       func() (pressure.Reading, error)
	Cards      *Cards // nil: none are looked for
	Monitor    *pressure.Monitor
	Until      string // level at which the watch ends, "" for none
	Once       bool
	Command    string // shell command at each change, "" for none
	HookOutput io.Writer
	Show       func(Moment) error
	Warn       func(text string)

	level pressure.Level
	fed   bool
	told  map[string]bool   // warnings given
	seen  pressure.Readings // of Read
}

// Run reads now and at every tick, until Until is reached or ctx ends.
func (w *Watcher) Run(ctx context.Context, ticks <-chan time.Time) error {
	for {
		done, err := w.Step(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			if w.Until != "" {
				return w.missed()
			}
			return nil
		case <-ticks:
		}
	}
}

// Step takes one reading, shows it, and runs the hooks.
func (w *Watcher) Step(ctx context.Context) (done bool, err error) {
	reading := w.reading(ctx)
	if len(reading.Budgets) == 0 {
		return false, verdict.Unable.Of(errors.New("no memory could be read"))
	}
	state := w.Monitor.Feed(reading)
	before, first := w.level, !w.fed
	w.level, w.fed = state.Level, true
	changed := state.Changed || first
	if err := w.Show(Moment{reading, state, before, changed}); err != nil {
		return false, err
	}
	if state.Changed && w.Command != "" {
		w.hook(ctx, state, before)
	}
	if reading.Blind() && w.Once {
		return true, verdict.Unsure.Of(fmt.Errorf("%s could not be read: the level may be higher",
			strings.Join(reading.Unseen(), ", ")))
	}
	reached := w.reached(before, first) && !(reading.Blind() && w.Until == pressure.Low.String())
	if w.Once && w.Until != "" && !reached {
		return true, w.missed()
	}
	return w.Once || reached, nil
}

// missed is the verdict where the level that was waited for did not come.
func (w *Watcher) missed() error {
	return verdict.Failed.Errorf("the level is %s: %s was not reached", w.level, w.Until)
}

// reading is what the host and its cards have in use.
func (w *Watcher) reading(ctx context.Context) pressure.Reading {
	reading, err := w.Read()
	if err != nil && len(reading.Budgets)+len(reading.Unread) == 0 && w.seen.Any() {
		reading, err = w.seen.Fail(err), nil
	}
	if err != nil {
		w.warnOnce(err.Error())
	}
	reading, doubtful := w.seen.Settle(reading)
	for _, u := range doubtful {
		w.warnOnce(u.Why)
	}
	w.warnUnread(reading.Unread, false)
	if w.Cards != nil {
		devices, unread, err := w.Cards.Read(ctx)
		if err != nil && ctx.Err() == nil { // what the end of the watch cut short is no failure
			w.warnOnce(err.Error())
		}
		reading.Budgets = append(reading.Budgets, devices...)
		if ctx.Err() == nil {
			reading.Unread = append(reading.Unread, w.warnUnread(unread, err != nil)...)
		}
	}
	return reading
}

// warnUnread says once of each budget why it is not read; told, the cause of all has been said.
func (w *Watcher) warnUnread(list []pressure.Unread, told bool) []pressure.Unread {
	for _, u := range list {
		switch {
		case told:
		case u.Covered:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): its parts are", u.Name, u.Why))
		case u.Last:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): its last reading stands", u.Name, u.Why))
		default:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): the level may be higher", u.Name, u.Why))
		}
	}
	return list
}

// reached says whether Until is satisfied: at or above a level, or, for low, having come down to it.
func (w *Watcher) reached(before pressure.Level, first bool) bool {
	switch w.Until {
	case "":
		return false
	case pressure.Low.String():
		return w.level == pressure.Low && !first && before != pressure.Low
	}
	return int(w.level) >= slices.Index(Levels, w.Until)
}

func (w *Watcher) warnOnce(text string) {
	if w.told == nil {
		w.told = map[string]bool{}
	}
	if !w.told[text] {
		w.told[text] = true
		w.Warn(strings.Join(strings.Fields(text), " "))
	}
}

// hook runs Command and waits for it; its failure is a warning.
func (w *Watcher) hook(ctx context.Context, s pressure.State, before pressure.Level) {
	shell := exec.CommandContext(ctx, "sh", "-c", w.Command)
	shell.Env = append(os.Environ(), "VLMEM_LEVEL="+s.Level.String(), "VLMEM_PREVIOUS="+before.String(),
		"VLMEM_BUDGET="+s.Tightest.Name,
		fmt.Sprintf("VLMEM_USED_BYTES=%d", s.Tightest.Used), fmt.Sprintf("VLMEM_LIMIT_BYTES=%d", s.Tightest.Limit))
	shell.Stdout, shell.Stderr = w.HookOutput, w.HookOutput
	if err := shell.Run(); err != nil {
		w.Warn(fmt.Sprintf("--exec: %v", err))
	}
}
