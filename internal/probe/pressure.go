package probe

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// Pressure is one reading of a Gauge.
func Pressure(rootDir string) (pressure.Reading, error) { return (&Gauge{Root: rootDir}).Read() }

// Gauge reads again and again how full the memory of the machine under Root is: the host's, that of the nodes that the
// process is held to, the tightest control group's, AMD's cards', and the kernel's stall counters, those of the
// process's own group where they are kept, since they tell of it alone. What is used is the working set: page cache
// that can be dropped counts as free.
//
// A budget that could not be read is among the unread, with what is there of it among the budgets. So is one that an
// earlier reading had and this one lacks, unless the files that told of it say that it is over: files that vanish lift
// no limit.
type Gauge struct {
	Root string
	seen []told
}

// told is a file that told of a budget, or of the stalls.
type told struct{ budget, file string }

// survey is one reading as it is taken.
type survey struct {
	*root
	pressure.Reading
	groups []controlGroup
	nodes  hostNodes
	told   []told
}

// Read takes a reading. It fails where there is no root to read.
func (g *Gauge) Read() (pressure.Reading, error) {
	r, err := openRoot(g.Root)
	if err != nil {
		return pressure.Reading{}, err
	}
	defer r.close()
	s := survey{root: r}
	host, err := hostBudget(r)
	if err == nil {
		s.Budgets = append(s.Budgets, host)
	}
	s.unread(host.Name, false, err)
	s.readGroups()
	s.readNodes()
	s.readCards()
	s.readStall()
	s.miss(g.seen)
	g.seen = s.told
	return s.Reading, nil
}

func (s *survey) unread(name string, perhaps bool, err error) {
	if err != nil {
		s.Unread = append(s.Unread, pressure.Unread{Name: name, Why: err.Error(), Perhaps: perhaps})
	}
}

// miss tells what earlier readings had and this one lacks, and remembers it as told: it may be missed again.
func (s *survey) miss(seen []told) {
	for _, before := range seen {
		if slices.Contains(s.told, before) || s.over(before) {
			continue
		}
		s.told = append(s.told, before)
		if !slices.ContainsFunc(s.Unread, func(u pressure.Unread) bool { return u.Name == before.budget }) {
			s.unread(before.budget, false, fmt.Errorf("/%s is gone or says something else", before.file))
		}
	}
}

// over is whether a budget that is no longer told of is known to have ended: the process left the group, or the file
// is there and sets nothing, or something that another file tells.
func (s *survey) over(t told) bool {
	controller, ends := "memory", s.limits
	switch t.budget {
	case nodesBudget:
		if controller, ends = "cpuset", s.lists; len(s.nodes.all) == 0 || s.nodes.err != nil {
			return false
		}
		if strings.Contains(t.file, "*") { // of cards' nodes: over where another file narrows what they leave
			return len(s.nodes.cards) > 0
		}
	case groupBudgetName, pressure.Stalls:
	default:
		return false // a card does not end
	}
	if !strings.HasPrefix(t.file, "proc/") {
		dirs, _, ok, err := groupDirs(s.root, controller)
		if !ok || err != nil {
			return false
		}
		if !slices.Contains(dirs, path.Dir(t.file)) {
			return true
		}
	}
	return t.budget != pressure.Stalls && ends(t.file)
}

// limits is whether a file of a group still tells a limit, or that there is none.
func (s *survey) limits(file string) bool {
	if path.Base(file) == "memory.stat" {
		stat, _ := s.counters(file)
		_, ok := stat[hierarchicalLimit]
		return ok
	}
	_, err := s.limit(file)
	return err == nil
}

// policies are those that the kernel writes in a line of numa_maps (mm/mempolicy.c, mpol_to_str).
var policies = regexp.MustCompile(`^[0-9a-f]+ (default|local|prefer|bind|interleave|weighted interleave)\b`)

// lists is whether a file that narrowed the nodes still names some.
func (s *survey) lists(file string) bool {
	switch path.Base(file) {
	case "status":
		_, err := parseList(s.field(file, "Mems_allowed_list:"))
		return err == nil && s.field(file, "Mems_allowed_list:") != ""
	case "numa_maps":
		text, err := s.text(file)
		nodes, policyErr := boundPolicy(s.root)
		policy := policies.FindStringSubmatch(text)
		return err == nil && policyErr == nil && policy != nil && (policy[1] != "bind" || len(nodes) > 0)
	}
	for _, file := range []string{file + ".effective", file} { // version 2 leaves the other empty where it inherits
		if list, err := s.list(file); err == nil && len(list) > 0 {
			return true
		}
	}
	return false
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
	_, told := info["MemAvailable"]
	if total <= 0 || !ok || !told && r.field("proc/meminfo", "MemAvailable:") != "" {
		return b, errors.New("/proc/meminfo: no MemTotal and MemAvailable")
	}
	if left > info["MemTotal"] {
		return b, fmt.Errorf("/proc/meminfo: MemAvailable %v of %v", left, info["MemTotal"])
	}
	b.Used, b.Limit = max(total-left, 0), total
	return b, nil
}

const (
	groupBudgetName = "cgroup"
	nodesBudget     = "nodes"
)

// readGroups takes the fullest of the bounds that groups set: memory.high counts as memory.max does. Where some could
// not be read it is the fullest of the others.
func (s *survey) readGroups() {
	var unknown error
	s.groups, unknown = controlGroups(s.root, "memory")
	limits, err := readMemoryLimits(s.root)
	var tightest *pressure.Budget
	for i, bound := range limits.bounds {
		s.told = append(s.told, told{groupBudgetName, strings.TrimPrefix(bound.Source, "/")})
		if slices.Contains(limits.unheld, i) {
			err = cmp.Or(err, limits.held)
			continue
		}
		b := pressure.Budget{Name: groupBudgetName, Own: true, Used: bound.HeldBytes, Limit: bound.LimitBytes}
		if tightest == nil || b.Fraction() > tightest.Fraction() {
			tightest = &b
		}
	}
	if tightest != nil {
		s.Budgets = append(s.Budgets, *tightest)
	}
	s.unread(groupBudgetName, unknown != nil || limits.outside, err)
}

// readNodes takes the nodes that the process is held to as one budget, where they are not all. It is one only where
// every node was read: some of them may be fuller than all are together.
func (s *survey) readNodes() {
	s.nodes = readHostNodes(s.root)
	b, err := s.nodes.bound(s.root, 0), s.nodes.err
	if b != nil {
		s.told = append(s.told, told{nodesBudget, strings.TrimPrefix(b.Source, "/")})
		if err == nil && b.LimitBytes <= 0 {
			err = fmt.Errorf("%s: the nodes that it allows have no memory", b.Source)
		}
	}
	if b != nil && err == nil {
		s.Budgets = append(s.Budgets, pressure.Budget{Name: nodesBudget, Used: b.HeldBytes, Limit: b.LimitBytes})
	}
	s.unread(nodesBudget, b == nil, err)
}

// readCards takes the memory of AMD's cards, whose driver counts it in files. What a processor's graphics has set aside
// is too little to be worth a level.
func (s *survey) readCards() {
	for _, bus := range slices.Sorted(slices.Values(s.names(pciDir))) {
		dir, name := pciDir+"/"+bus+"/", "amdgpu "+bus
		total, err := s.number(dir + "mem_info_vram_total")
		counts := s.exists(dir+"mem_info_vram_total") || s.exists(dir+"mem_info_vram_used")
		if !counts || err == nil && total > 0 && total < int(2*units.GiB) {
			continue
		}
		used, usedErr := s.number(dir + "mem_info_vram_used")
		if err = cmp.Or(err, usedErr); err == nil && (used < 0 || total <= 0) {
			err = fmt.Errorf("/%smem_info_vram_*: used %d of %d is no size", dir, used, total)
		}
		if err == nil {
			s.told = append(s.told, told{name, dir + "mem_info_vram_total"})
			s.Budgets = append(s.Budgets, pressure.Budget{Name: name, Device: true,
				Used: units.Bytes(used), Limit: units.Bytes(total)})
		}
		s.unread(name, false, err)
	}
}

// readStall takes the stall counters, none where the kernel keeps none.
func (s *survey) readStall() {
	file := "proc/pressure/memory"
	if len(s.groups) > 0 && s.groups[0].v2 && s.exists(s.groups[0].dir+"/memory.pressure") {
		file = s.groups[0].dir + "/memory.pressure"
	}
	if !s.exists(file) {
		return
	}
	text, err := s.text(file)
	if err == nil {
		s.Stall, err = parseStall("/"+file, text)
	}
	if s.unread(pressure.Stalls, true, err); err == nil {
		s.told = append(s.told, told{pressure.Stalls, file})
	}
}

// parseStall reads lines such as "some avg10=1.50 avg60=0.40 avg300=0.10 total=12345", averages in percent.
func parseStall(file, text string) (*pressure.Stall, error) {
	var s pressure.Stall
	into := map[string]*float64{"some": &s.Some, "full": &s.Full}
	seen := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || into[f[0]] == nil {
			continue
		}
		value, ok := strings.CutPrefix(f[1], "avg10=")
		percent, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil || !(percent >= 0 && percent <= 100) { // NaN too
			return nil, fmt.Errorf("%s:%d: %q: want avg10=PERCENT", file, n, f[1])
		}
		*into[f[0]] = percent / 100
		seen[f[0]] = true
	}
	if len(seen) < len(into) {
		return nil, fmt.Errorf("%s: want a line of some and one of full", file)
	}
	return &s, nil
}
