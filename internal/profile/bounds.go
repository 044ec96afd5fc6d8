package profile

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// Bound is one thing that limits what a process may still fill:
//
//	left = max(0, limit − held)
//
// held is what is there now and cannot be dropped without cost. What binds is the bound that lets a process fill
// least (Fillable); totals bind nobody. Reclaimable is the part of held that the kernel can drop under pressure, page
// cache in use, slab, ZFS's ARC: it can be had, but whoever reads those files again pays for it, so no plan counts on
// it.
type Bound struct {
	Name        string      `yaml:"name" json:"name"` // one of the names below, with the group or nodes it is of
	LimitBytes  units.Bytes `yaml:"limit_bytes" json:"limit_bytes"`
	HeldBytes   units.Bytes `yaml:"held_bytes" json:"held_bytes"`
	LeftBytes   units.Bytes `yaml:"left_bytes" json:"left_bytes"`
	Reclaimable units.Bytes `yaml:"reclaimable_bytes,omitempty" json:"reclaimable_bytes,omitempty"`
	// Virtual bounds count address space or commitments, not pages: they need no page tables of their own.
	Virtual bool `yaml:"virtual,omitempty" json:"virtual,omitempty"`
	// Throttles: above it nobody is killed, but every allocation waits for reclaim.
	Throttles bool   `yaml:"throttles,omitempty" json:"throttles,omitempty"`
	Source    string `yaml:"source" json:"source"` // the file that sets it
}

// Names of bounds, which a group or nodes may follow. A group's second one, memory.high, ends in Throttling.
const (
	HostMemory       = "host memory"
	MemoryNodes      = "memory nodes"
	CardlessNodes    = "memory that is no card's"
	ControlGroup     = "control group"
	Throttling       = ", throttles"
	AddressSpace     = "address space, RLIMIT_AS"
	WritableMappings = "private writable mappings, RLIMIT_DATA"
	Commitments      = "commitments, vm.overcommit_memory 2"
)

// kinds are the bounds' names in a word each, without what they are of.
var kinds = []struct{ name, kind string }{{HostMemory, "host"}, {MemoryNodes, "nodes"},
	{CardlessNodes, "nodes-of-no-card"}, {AddressSpace, "rlimit-as"}, {WritableMappings, "rlimit-data"},
	{Commitments, "overcommit"}}

// KindOf is the kind of the bound of that name in a word, "" where it is none.
func KindOf(name string) string {
	if strings.HasPrefix(name, ControlGroup) {
		if strings.HasSuffix(name, Throttling) {
			return "cgroup-high"
		}
		return "cgroup-max"
	}
	for _, k := range kinds {
		if strings.HasPrefix(name, k.name) {
			return k.kind
		}
	}
	return ""
}

// NewBound is a bound with so much left of its limit.
func NewBound(name, source string, limit, left units.Bytes) Bound {
	left = min(max(left, 0), limit)
	return Bound{Name: name, LimitBytes: limit, HeldBytes: limit - left, LeftBytes: left, Source: source}
}

// pageTableEntry is what each page costs its process on all architectures of 64 bits (Linux, pgtable_types.h).
const pageTableEntry = 8

// Fillable is what of a bound's rest a process can write to: its page tables are charged with it.
func (b *Bound) Fillable(page units.Bytes) units.Bytes {
	if b.Virtual {
		return b.LeftBytes
	}
	if page <= 0 {
		page = 4 * units.KiB
	}
	entries := page / pageTableEntry
	return b.LeftBytes / (entries + 1) * entries
}

// Binding is the bound that lets a process fill least, the first of equals, nil where nothing of the kind is known.
func (m *Memory) Binding() *Bound {
	var least *Bound
	for i := range m.Bounds {
		if b := &m.Bounds[i]; least == nil || b.Fillable(m.PageBytes) < least.Fillable(m.PageBytes) {
			least = b
		}
	}
	return least
}

// Bind sets FillableBytes to what the bounds leave.
func (m *Memory) Bind() {
	m.FillableBytes = nil
	for i := range m.Bounds {
		if left := m.Bounds[i].Fillable(m.PageBytes); m.FillableBytes == nil || left < *m.FillableBytes {
			m.FillableBytes = &left
		}
	}
}

// Room is the memory that a new process plans with: a capacity, what of it is taken now, and which bound says so.
// Probes of before bounds were told know totals, a limit and what is available; profiles know the total alone, and
// what is taken is then unknown.
type Room struct {
	Capacity, Taken units.Bytes
	Known           bool   // Taken was read from the machine
	Name            string // of the bound
	Why             string
}

// Room is what binds now; with idle, what would bind were nobody else on the machine.
func (m *Memory) Room(idle bool) Room {
	switch b := m.Binding(); {
	case idle && len(m.Bounds) > 0:
		least := slices.MinFunc(m.Bounds, func(a, b Bound) int { return int(a.LimitBytes - b.LimitBytes) })
		return Room{Capacity: least.LimitBytes, Name: least.Name, Why: least.Name + ", were nobody else there"}
	case idle:
		return Room{Capacity: m.Usable(), Name: m.usableName(), Why: "host memory, were nobody else there"}
	case b != nil:
		return Room{Capacity: b.LimitBytes, Taken: b.LimitBytes - b.Fillable(m.PageBytes), Known: true, Why: b.Name}
	case m.AvailableBytes != nil:
		return Room{Capacity: m.Usable(), Taken: max(0, m.Usable()-*m.AvailableBytes), Known: true,
			Why: "host memory a process may fill"}
	}
	return Room{Capacity: m.Usable(), Why: "host memory a process may fill"}
}

// usableName is the name of what makes Usable.
func (m *Memory) usableName() string {
	if m.Usable() < m.TotalBytes {
		return ControlGroup
	}
	return HostMemory
}

// SaysInUse reports whether anything is known of what other programs hold now, on the host or on a card.
func (h *Hardware) SaysInUse() bool {
	host := h.Memory != nil && (len(h.Memory.Bounds) > 0 || h.Memory.AvailableBytes != nil)
	return host || slices.ContainsFunc(h.GPUs, func(g GPU) bool { return g.FreeBytes != nil })
}

// Compute is how many threads a computation should run, and why: one for each core that the process may use, as
// threads of one core share its vector units; of cores that differ the strong ones, since every step waits for its
// slowest thread; and no more than the CPU time that a control group grants, as more only wait for each other.
func (h *Hardware) Compute() (threads int, why string) {
	c := h.CPU
	if c == nil {
		return 0, "no processor is known"
	}
	threads, why = max(1, c.Cores), "one for each core: threads of one core share its caches"
	if c.AllowedCores > 0 && c.AllowedCores < threads {
		threads, why = c.AllowedCores, fmt.Sprintf("one for each core of CPUs %s, which this process may use",
			Ranges(c.Allowed))
	}
	if strong := strongCores(c); strong > 0 && strong < threads {
		threads, why = strong, fmt.Sprintf("one for each %s core: every step waits for its slowest thread",
			c.Kinds[0].Name)
	}
	if n, limited := h.quotaThreads(); limited && n < threads {
		threads, why = n, fmt.Sprintf("CPU time is limited to %.3g CPUs: more threads would wait for it",
			*h.System.CPUQuota)
	}
	return threads, why
}

// UsableThreads is how many logical CPUs the process can keep busy at once.
func (h *Hardware) UsableThreads() int {
	if h.CPU == nil {
		return 0
	}
	n := h.CPU.Threads
	if len(h.CPU.Allowed) > 0 {
		n = min(n, len(h.CPU.Allowed))
	}
	if q, limited := h.quotaThreads(); limited {
		n = min(n, q)
	}
	return n
}

// quotaThreads is the whole CPUs of a quota: half a CPU more would throttle all threads together in each period.
func (h *Hardware) quotaThreads() (int, bool) {
	if h.System == nil || h.System.CPUQuota == nil {
		return 0, false
	}
	return max(1, int(math.Floor(*h.System.CPUQuota+1e-9))), true
}

// strong are the kinds of cores above efficiency and low power.
func (c *CPU) strong() []CoreKind {
	return slices.DeleteFunc(slices.Clone(c.Kinds),
		func(k CoreKind) bool { return k.Name == "efficiency" || k.Name == "low-power" })
}

// StrongCPUs are the logical CPUs of the cores above efficiency and low power, ascending; none where cores are alike.
func (c *CPU) StrongCPUs() (list []int) {
	if len(c.Kinds) < 2 {
		return nil
	}
	for _, k := range c.strong() {
		list = append(list, k.CPUs...)
	}
	slices.Sort(list)
	return list
}

// strongCores counts the allowed cores of the kinds above efficiency and low power; 0 where there are none, or where
// cores do not differ.
func strongCores(c *CPU) int {
	var n int
	for _, k := range c.strong() {
		may := len(k.CPUs)
		if len(c.Allowed) > 0 {
			may = 0
			for _, cpu := range k.CPUs {
				if slices.Contains(c.Allowed, cpu) {
					may++
				}
			}
		}
		if may == len(k.CPUs) {
			n += k.Cores
		} else {
			n += min(k.Cores, may)
		}
	}
	return n
}

// Ranges writes ascending numbers as the kernel does: "0-3,8".
func Ranges(list []int) string {
	text := ""
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if text != "" {
			text += ","
		}
		text += fmt.Sprint(list[i])
		if j > i {
			text += fmt.Sprintf("-%d", list[j])
		}
		i = j + 1
	}
	return text
}
