package probe

import (
	"bufio"
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
// used is the working set: page cache that can be dropped counts as free. What could not be read is in the error, the
// rest in the reading.
func Pressure(rootDir string) (pressure.Reading, error) {
	r, err := openRoot(rootDir)
	if err != nil {
		return pressure.Reading{}, err
	}
	defer r.close()
	var reading pressure.Reading
	host, hostErr := hostBudget(r)
	if hostErr == nil {
		reading.Budgets = append(reading.Budgets, host)
	}
	groups, groupErr := controlGroups(r, "memory")
	b, limited, limitErr := groupBudget(r)
	if limited {
		reading.Budgets = append(reading.Budgets, b)
	}
	if groupErr == nil {
		groupErr = limitErr
	}
	cards, unread := cardBudgets(r)
	reading.Budgets, reading.Unread = append(reading.Budgets, cards...), unread
	reading.Stall, err = readStall(r, groups)
	return reading, errors.Join(hostErr, groupErr, err)
}

// hostBudget is what of the host's memory is used: huge pages that are set aside are not there to be used.
func hostBudget(r *root) (pressure.Budget, error) {
	info, err := readMeminfo(r, "proc/meminfo")
	if err != nil {
		return pressure.Budget{}, err
	}
	left, ok := available(info)
	total := info["MemTotal"] - hugePages(info)
	if total <= 0 || !ok {
		return pressure.Budget{}, errors.New("/proc/meminfo: no MemTotal and MemAvailable")
	}
	return pressure.Budget{Name: "host", Used: max(total-left, 0), Limit: total}, nil
}

// groupBudget is the fullest of the bounds that groups set: memory.high counts as memory.max does.
func groupBudget(r *root) (pressure.Budget, bool, error) {
	limits, err := readMemoryLimits(r)
	var tightest pressure.Budget
	for _, bound := range limits.bounds {
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
		if err != nil || total < int(2*units.GiB) {
			continue
		}
		name := "amdgpu " + bus
		used, err := r.number(pciDir + "/" + bus + "/mem_info_vram_used")
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
