package fleet_test

import (
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

func BenchmarkCards(b *testing.B) {
	host, err := profiles.Hardware("i5-10210u")
	if err != nil {
		b.Fatal(err)
	}
	var machines []fleet.Machine
	for _, name := range profiles.HardwareNames() {
		h, err := profiles.Hardware(name)
		if err != nil {
			b.Fatal(err)
		}
		if h.Memory == nil {
			machines = append(machines, fleet.Machine{Name: name, Hardware: profile.Combine(host, h)})
		}
	}
	var models []profile.Model
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err != nil {
			b.Fatal(err)
		}
		if advise.Serving(&m) != "" {
			models = append(models, m)
		}
	}
	asked := fleet.Asked{Inputs: advise.Inputs{Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280,
		ImageHeight: 720,
		Concurrency: 1}}}
	for b.Loop() {
		if _, err := fleet.Make(b.Context(), machines, models, asked); err != nil {
			b.Fatal(err)
		}
	}
}
