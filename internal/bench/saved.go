package bench

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/replay"
)

// savedRepeats is how often a run that is saved or compared repeats: twelve samples of five repeats each.
const savedRepeats = 60

// Saved is the run that a benchmark is compared with, and where its own is kept.
type Saved struct {
	into   *outlet.Pending // nil where none is kept
	before *baseline.File  // nil where nothing is compared
}

// OpenSaved reads the run to compare with and opens the file to keep one in, before anything runs; "" is none. open is
// given the flag that names the file, its format and its path.
func OpenSaved(against, save string, open func(flag, format, path string) (*outlet.Pending, error)) (*Saved, error) {
	s := &Saved{}
	if against != "" {
		before, err := baseline.Open(against)
		if err != nil {
			return nil, err
		}
		s.before = &before
	}
	if save == "" {
		return s, nil
	}
	var err error
	s.into, err = open("--save", "json", save)
	return s, err
}

// Repeats is how often the run repeats: as it was asked to, or where nothing was given as comparing needs.
func (s *Saved) Repeats(asked int, given bool) int {
	if s.active() && !given {
		return savedRepeats
	}
	return asked
}

// active reports whether a run is kept or compared.
func (s *Saved) active() bool { return s.into != nil || s.before != nil }

// Discard leaves the file of the run as it was, unless Hold has kept it.
func (s *Saved) Discard() { s.into.Discard() }

// Hold keeps the run and compares it; the comparison is nil where there is nothing to compare with.
func (s *Saved) Hold(results []replay.Summary) (*baseline.Comparison, error) {
	if !s.active() {
		return nil, nil
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return nil, fmt.Errorf("naming this machine: %w", err)
	}
	now := baseline.File{Version: release.Version(), Fingerprint: machine.Fingerprint, Results: results}
	if s.into != nil {
		if err := errors.Join(now.Write(s.into), s.into.Commit()); err != nil {
			return nil, err
		}
	}
	if s.before == nil {
		return nil, nil
	}
	c := baseline.Compare(*s.before, now, baseline.DefaultThresholds)
	return &c, nil
}
