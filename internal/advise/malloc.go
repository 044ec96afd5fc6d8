package advise

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/units"
)

// MallocSetting is one way to serve a process's heap: variables of its environment.
type MallocSetting struct {
	Name string   `yaml:"name" json:"name"`
	Env  []string `yaml:"env" json:"env"` // NAME=value
}

// MallocTrial is what a workload cost under a setting.
type MallocTrial struct {
	MallocSetting `yaml:",inline"`
	// mean of allocs and frees with the first write to each page, median of runs
	NsPerOp float64     `yaml:"ns_per_op" json:"ns_per_op"`
	PeakRSS units.Bytes `yaml:"peak_rss_bytes" json:"peak_rss_bytes"`
	Faults  int64       `yaml:"page_faults" json:"page_faults"`
	Runs    int         `yaml:"runs" json:"runs"`
}

// MallocChoice is the settings tried, the fastest first.
type MallocChoice struct {
	Best       MallocTrial   `yaml:"best" json:"best"`
	Default    MallocTrial   `yaml:"default" json:"default"`
	LowerBound units.Bytes   `yaml:"lower_bound_bytes" json:"lower_bound_bytes"`
	Tried      []MallocTrial `yaml:"tried" json:"tried"`
}

// Helps reports whether another setting than the default is chosen.
func (c *MallocChoice) Helps() bool { return c.Best.Name != c.Default.Name }

const (
	roomy      = 1.25 // more memory than this times the least is too much for speed
	worthwhile = 0.9  // a setting has to take less than this share of the default's time
)

// ChooseMalloc picks the fastest trial whose resident memory is at most a quarter above the least, where it saves a
// tenth of the default's time; the default, which is the first trial, otherwise.
func ChooseMalloc(trials []MallocTrial, lowerBound int64) (MallocChoice, error) {
	if len(trials) == 0 {
		return MallocChoice{}, errors.New("choosing an allocator: nothing was tried")
	}
	least := trials[0].PeakRSS
	for _, t := range trials {
		least = min(least, t.PeakRSS)
	}
	c := MallocChoice{Best: trials[0], Default: trials[0], LowerBound: units.Bytes(lowerBound),
		Tried: slices.Clone(trials)}
	for _, t := range trials[1:] {
		if float64(t.PeakRSS) <= roomy*float64(least) && t.NsPerOp < c.Best.NsPerOp &&
			t.NsPerOp < worthwhile*c.Default.NsPerOp {
			c.Best = t
		}
	}
	slices.SortStableFunc(c.Tried, func(a, b MallocTrial) int { return cmp.Compare(a.NsPerOp, b.NsPerOp) })
	return c, nil
}

// MallocSettings is what to try, the C library's default first; libraries are the paths of preloadable heaps by name.
//
// glibc maps each block above 32 MiB at most, and below that as soon as blocks of such a size were freed, anew: every
// page is then zeroed by the kernel at every allocation. Without mmap, and with a trim threshold above all that is
// live, it keeps what it has. The tunables are those of glibc 2.26 and later (manual/tunables.texi), hugetlb of 2.35;
// the options of the others are those of gperftools 2.10, jemalloc 5.3 (MALLOC_CONF) and mimalloc 2.
func MallocSettings(libraries map[string]string) []MallocSetting {
	const keep = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776:glibc.malloc.top_pad=67108864"
	list := []MallocSetting{
		{"glibc", nil},
		{"glibc, large mmap threshold",
			[]string{"GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=1099511627776"}},
		{"glibc, keeping memory", []string{"GLIBC_TUNABLES=" + keep}},
		{"glibc, keeping memory in huge pages", []string{"GLIBC_TUNABLES=" + keep + ":glibc.malloc.hugetlb=1"}},
	}
	for _, other := range []struct{ library, what, option string }{
		{"tcmalloc", "", ""},
		{"tcmalloc", ", keeping memory", "TCMALLOC_RELEASE_RATE=0"},
		{"jemalloc", "", ""},
		{"jemalloc", ", keeping memory", "MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0"},
		{"jemalloc", ", keeping memory in huge pages",
			"MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,thp:always,metadata_thp:auto"},
		{"mimalloc", "", ""},
		{"mimalloc", ", keeping memory", "MIMALLOC_PURGE_DELAY=-1"},
	} {
		path, ok := libraries[other.library]
		if !ok {
			continue
		}
		s := MallocSetting{other.library + other.what, []string{"LD_PRELOAD=" + path}}
		if other.option != "" {
			s.Env = append(s.Env, other.option)
		}
		list = append(list, s)
	}
	return list
}

// Headline says what the choice saves.
func (c *MallocChoice) Headline() []string {
	line := func(t MallocTrial) string {
		return fmt.Sprintf("%s: %.0f ns an operation, %s resident, %s page faults", t.Name, t.NsPerOp, t.PeakRSS,
			units.Grouped(t.Faults))
	}
	list := []string{fmt.Sprintf("%s takes 1/%.1f of the default's time [measured]", c.Best.Name,
		c.Default.NsPerOp/c.Best.NsPerOp)}
	if !c.Helps() {
		list[0] = fmt.Sprintf("nothing installed here saves a tenth of the default's time within a quarter more memory, "+
			"out of %d settings [measured]", len(c.Tried))
	}
	list = append(list, fmt.Sprintf("each setting ran the workload, %s live at most, in a process of its own, writing "+
		"every page", c.LowerBound))
	for _, t := range c.Tried {
		list = append(list, line(t))
	}
	return list
}

// MallocTrials are what a program cost under each setting, by its runs.
func MallocTrials(p *replay.Program, settings []MallocSetting, runs [][]replay.Run) []MallocTrial {
	var trials []MallocTrial
	for i, s := range settings {
		sum := p.Summarise(s.Name, runs[i])
		trials = append(trials, MallocTrial{MallocSetting: s, NsPerOp: medianMean(p, runs[i]),
			PeakRSS: units.Bytes(*sum.PeakRSSBytes), Faults: *sum.PageFaults, Runs: len(runs[i])})
	}
	return trials
}

// medianMean is the mean time of an operation, in nanoseconds, of the median run.
func medianMean(p *replay.Program, runs []replay.Run) float64 {
	var means []float64
	for _, r := range runs {
		var sum int64
		for _, ns := range r.Ns {
			sum += ns
		}
		means = append(means, float64(sum)/float64(p.Operations()))
	}
	slices.Sort(means)
	return means[len(means)/2]
}
