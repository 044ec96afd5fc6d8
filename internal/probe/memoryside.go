package probe

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// memorySideFile is what hwloc-dump-hwdata leaves of the memory in the package of a Xeon Phi (Knights Landing), which
// may work as a cache before each NUMA node's own. The kernel does not tell; lstopo counts it as L3
// (hwloc/topology-linux.c).
const memorySideFile = "var/run/hwloc/knl_memoryside_cache"

// readMemorySide adds that cache to every NUMA node with CPUs.
func (t *Topology) readMemorySide(r *root) {
	text, err := r.text(memorySideFile)
	if err != nil {
		return // no such machine
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			values[key] = strings.TrimSpace(value)
		}
	}
	if mode := values["memory_mode"]; mode != "Cache" && !strings.HasPrefix(mode, "Hybrid") {
		return
	}
	size, err := strconv.ParseInt(values["cache_size"], 10, 64)
	if err != nil || size <= 0 {
		t.unknown["cpu.caches"] = fmt.Sprintf("/%s: cache_size is %q, want bytes", memorySideFile, values["cache_size"])
		return
	}
	number := func(key string) int { n, _ := strconv.Atoi(values[key]); return max(n, 0) } // zero: the file does not say
	for _, set := range t.nodeSets {
		if len(set) == 0 {
			continue
		}
		c := profile.Cache{Level: 3, Type: "unified", SizeBytes: units.Bytes(size),
			LineBytes: units.Bytes(number("line_size")),
			Ways:      number("associativity"), SharedBy: set.count(), Instances: 1}
		t.insert(&Object{Type: cacheName(c), ID: -1, Cache: &c, set: set})
	}
}
