package advise_test

import (
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/units"
)

func TestChooseMalloc(t *testing.T) {
	trial := func(name string, ns float64, mib units.Bytes) advise.MallocTrial {
		return advise.MallocTrial{MallocSetting: advise.MallocSetting{Name: name}, NsPerOp: ns, PeakRSS: mib * units.MiB}
	}
	for _, c := range []struct {
		name   string
		trials []advise.MallocTrial
		want   string
	}{
		{"the fastest", []advise.MallocTrial{trial("glibc", 100, 100), trial("a", 50, 110), trial("b", 20, 120)}, "b"},
		{"not for a quarter more memory", []advise.MallocTrial{trial("glibc", 100, 100), trial("a", 50, 110),
			trial("b", 20, 130)}, "a"},
		{"not for less than a tenth", []advise.MallocTrial{trial("glibc", 100, 100), trial("a", 95, 90)}, "glibc"},
	} {
		got, err := advise.ChooseMalloc(c.trials, 1)
		if err != nil || got.Best.Name != c.want || got.Helps() != (c.want != "glibc") {
			t.Errorf("%s: %s, %v; want %s", c.name, got.Best.Name, err, c.want)
		}
	}
	if got := len(advise.MallocSettings(map[string]string{"tcmalloc": "/lib/t.so"})); got != 6 {
		t.Errorf("%d settings with one library", got)
	}
}
