package speed_test

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
)

// TestHostCores: what affinity and quota leave computes, and an efficiency core half as much as another.
func TestHostCores(t *testing.T) {
	quota := 2.5
	kinds := []profile.CoreKind{{Name: "performance", Cores: 4}, {Name: "efficiency", Cores: 8}}
	for name, c := range map[string]struct {
		h    profile.Hardware
		want float64
	}{
		"all":      {profile.Hardware{CPU: &profile.CPU{Cores: 32, Threads: 64}}, 32},
		"hybrid":   {profile.Hardware{CPU: &profile.CPU{Cores: 12, Threads: 16, Kinds: kinds}}, 8},
		"affinity": {profile.Hardware{CPU: &profile.CPU{Cores: 4, Threads: 8, Allowed: []int{0, 4}, AllowedCores: 1}}, 1},
		"quota": {profile.Hardware{CPU: &profile.CPU{Cores: 32, Threads: 64},
			System: &profile.System{CPUQuota: &quota}}, 2},
		"threads untold": {profile.Hardware{CPU: &profile.CPU{Cores: 4}}, 4},
	} {
		if host, _ := speed.HostOf(c.h); host.Cores != c.want {
			t.Errorf("%s: %g cores, want %g", name, host.Cores, c.want)
		}
	}
}
