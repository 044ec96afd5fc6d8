package probe

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// Pressure reads how full the memory of the machine under root is: the host's, the tightest control group's, and the
// kernel's stall counters, those of the process's own group where they are kept, since they tell of it alone. What is
// used is the working set: page cache that can be dropped counts as free. A budget that could not be read is among the
// unread, with what is there of it among the budgets; why the stalls could not be is the error.
func Pressure(rootDir string) (pressure.Reading, error) {
	r, err := openRoot(rootDir)
	if err != nil {
		return pressure.Reading{}, err
	}
	defer r.close()
	var reading pressure.Reading
	unread := func(name string, perhaps bool, err error) {
		if err != nil {
			reading.Unread = append(reading.Unread, pressure.Unread{Name: name, Why: err.Error(), Perhaps: perhaps})
		}
	}
	host, err := hostBudget(r)
	if err == nil {
		reading.Budgets = append(reading.Budgets, host)
	}
	unread(host.Name, false, err)
	groups, unknown := controlGroups(r, "memory")
	b, limited, err := groupBudget(r)
	if limited {
		reading.Budgets = append(reading.Budgets, b)
	}
	unread(b.Name, unknown != nil, err)
	cards, without := cardBudgets(r)
	reading.Budgets, reading.Unread = append(reading.Budgets, cards...), append(reading.Unread, without...)
	reading.Stall, err = readStall(r, groups)
	return reading, err
}

// hostBudget is what of the host's memory is used: huge pages that are set aside are not there to be used.
func hostBudget(r *root) (pressure.Budget, error) {
	b := pressure.Budget{Name: "host"}
	info, err := readMeminfo(r, "proc/meminfo")
	if err != nil {
		return b, err
	}
	left, ok := available(info)
	total := info["MemTotal"] - hugePages(info)
	if total <= 0 || !ok {
		return b, errors.New("/proc/meminfo: no MemTotal and MemAvailable")
	}
	b.Used, b.Limit = max(total-left, 0), total
	return b, nil
}

// groupBudget is the fullest of the bounds that groups set: memory.high counts as memory.max does. With an error it is
// the fullest of those that could be read.
func groupBudget(r *root) (pressure.Budget, bool, error) {
	limits, err := readMemoryLimits(r)
	tightest := pressure.Budget{Name: "cgroup", Own: true}
	for i, bound := range limits.bounds {
		if slices.Contains(limits.unheld, i) {
			err = cmp.Or(err, limits.held)
			continue
		}
		b := pressure.Budget{Name: "cgroup", Own: true, Used: bound.HeldBytes, Limit: bound.LimitBytes}
		if tightest.Limit == 0 || b.Fraction() > tightest.Fraction() {
			tightest = b
		}
	}
	return tightest, tightest.Limit > 0, err
}

// cardBudgets is the memory of AMD's cards, whose driver counts it in files. What a processor's graphics has set aside
// is too little to be worth a level.
func cardBudgets(r *root) (budgets []pressure.Budget, unread []pressure.Unread) {
	for _, bus := range slices.Sorted(slices.Values(r.names(pciDir))) {
		total, err := r.number(pciDir + "/" + bus + "/mem_info_vram_total")
		counts := r.exists(pciDir+"/"+bus+"/mem_info_vram_total") || r.exists(pciDir+"/"+bus+"/mem_info_vram_used")
		if !counts || err == nil && total < int(2*units.GiB) {
			continue
		}
		name := "amdgpu " + bus
		used, usedErr := r.number(pciDir + "/" + bus + "/mem_info_vram_used")
		if err = cmp.Or(err, usedErr); err == nil && used < 0 {
			err = fmt.Errorf("mem_info_vram_used: %d is no size", used)
		}
		if err != nil {
			unread = append(unread, pressure.Unread{Name: name, Why: err.Error()})
			continue
		}
		budgets = append(budgets, pressure.Budget{Name: name, Device: true,
			Used: units.Bytes(used), Limit: units.Bytes(total)})
	}
	return budgets, unread
}

// readStall reads the stall counters, nil where the kernel keeps none.
func readStall(r *root, groups []controlGroup) (*pressure.Stall, error) {
	file := "proc/pressure/memory"
	if len(groups) > 0 && groups[0].v2 && r.exists(groups[0].dir+"/memory.pressure") {
		file = groups[0].dir + "/memory.pressure"
	}
	if !r.exists(file) {
		return nil, nil
	}
	text, err := r.text(file)
	if err != nil {
		return nil, err
	}
	return parseStall("/"+file, text)
}

// parseStall reads lines such as "some avg10=1.50 avg60=0.40 avg300=0.10 total=12345", averages in percent.
func parseStall(file, text string) (*pressure.Stall, error) {
	var s pressure.Stall
	into := map[string]*float64{"some": &s.Some, "full": &s.Full}
	seen := 0
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || into[f[0]] == nil {
			continue
		}
		value, ok := strings.CutPrefix(f[1], "avg10=")
		percent, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || percent < 0 || percent > 100 {
			return nil, fmt.Errorf("%s:%d: %q: want avg10=PERCENT", file, n, f[1])
		}
		*into[f[0]] = percent / 100
		seen++
	}
	if seen == 0 {
		return nil, fmt.Errorf("%s: neither a line of some nor of full", file)
	}
	return &s, nil
}
