package main

import (
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
)

// Timings that differ on a machine that something disturbed are inconclusive, whatever the words of the warning; on a quiet
// one, or beside another claim that fails, they fail.
func TestVerdictOfTimings(t *testing.T) {
	noisy := profile.Hardware{Warnings: []evidence.Warning{{Code: probe.Firmware, Text: "another program varies by"},
		{Code: probe.Disturbed, Text: "DRAM load with one thread lay between 9 and 12 GB/s"}}}
	quiet := profile.Hardware{Warnings: noisy.Warnings[:1]}
	for _, c := range []struct {
		h             profile.Hardware
		failed, timed int
		code          int
	}{
		{noisy, 0, 0, 0}, {noisy, 2, 2, exitInconclusive}, {noisy, 2, 1, exitGate}, {quiet, 2, 2, exitGate},
	} {
		v := advise.Verification{Claims: make([]advise.Claim, 2), Failed: c.failed, Timed: c.timed,
			Warnings: disturbances(c.h)}
		switch err := v.Verdict(); {
		case err == nil && c.code == 0:
		case err == nil || exitCode(err) != c.code:
			t.Errorf("%d of %d timed: %v, want exit %d", c.timed, c.failed, err, c.code)
		}
	}
}
