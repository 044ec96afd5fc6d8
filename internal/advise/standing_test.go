package advise_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/profiles"
)

// TestStandAsDeployed: what advise writes for an engine on ten machines with six models is judged as it was solved for
// by whoever asks again with those settings, and what it is over with each item at its most is never said to fit.
func TestStandAsDeployed(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for seconds")
	}
	machines, models, least := []string{"i5-10210u", "gtx-1080", "h100"}, []string{"qwen3-vl-2b", "qwen2.5-vl-7b"}, 15
	if *every {
		machines = []string{"i5-10210u", "mx350", "gtx-1050-ti", "gtx-1060-6gb", "gtx-1080", "gtx-1080-ti", "rtx-4060", "l4",
			"rtx-4090", "h100"}
		models = []string{"qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b", "qwen3-vl-32b", "qwen3-vl-30b-a3b", "qwen2.5-vl-7b"}
		least = 60
	}
	asked := 0
	for _, hardware := range machines {
		h, err := profiles.Hardware("i5-10210u")
		if err != nil {
			t.Fatal(err)
		}
		if hardware != h.Name {
			card, err := profiles.Hardware(hardware)
			if err != nil {
				t.Fatal(err)
			}
			h.GPUs = card.GPUs
		}
		for _, name := range models {
			m, err := profiles.Model(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range engine.All() {
				if !e.Estimates() || !e.Writes() || e.Offload == engine.Bytes {
					continue // a split by bytes is the file's, not the estimate's
				}
				in := advise.Inputs{Hardware: h, Model: m,
					Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
				if standsAsSolved(t, &in, e.Name, hardware) {
					asked++
				}
			}
		}
	}
	t.Logf("%d settings", asked)
	if asked < least {
		t.Errorf("only %d pairs have an answer", asked)
	}
}

// standsAsSolved holds what stands of an engine's settings to how they were solved, and says whether they were.
func standsAsSolved(t *testing.T, in *advise.Inputs, name, hardware string) bool {
	t.Helper()
	d, err := advise.Deploy(name, *in)
	var short *advise.Shortfall
	var refused *engine.Refusal
	if errors.As(err, &short) || errors.As(err, &refused) {
		return false
	}
	if err != nil {
		t.Errorf("%s, %s on %s: %v", name, in.Model.Name, hardware, err)
		return false
	}
	s, err := in.Stand(name, d.Memory, d.Options)
	if err != nil || s.Verdict != d.Verdict {
		t.Errorf("%s, %s on %s: %q, %v; solved as %q", name, in.Model.Name, hardware, s.Verdict, err, d.Verdict)
	}
	if s.Most > 0 && !strings.HasPrefix(s.Verdict, "fits if") && !strings.HasPrefix(s.Verdict, "does not fit") {
		t.Errorf("%s, %s on %s: %d bytes too little, and %q", name, in.Model.Name, hardware, s.Most, s.Verdict)
	}
	return true
}
