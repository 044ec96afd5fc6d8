package probe

import (
	"encoding/binary"
	"path"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// deviceTree is where firmware of PowerPC describes caches for kernels whose sysfs has none: a folder for each core
// with its first level, and one for each further cache, to which the one before points by number (Linux,
// Documentation/devicetree; hwloc/topology-linux.c reads the same).
const deviceTree = "proc/device-tree/cpus"

// treeCache is a folder of the device tree: a core or a cache.
type treeCache struct {
	dir   string
	next  uint32 // the number of the cache behind it, zero for none
	level int
	set   cpuset
}

// readDeviceTree adds the caches that the device tree tells of.
func (t *Topology) readDeviceTree(r *root) {
	var cores []treeCache
	caches := map[uint32]*treeCache{}
	for _, name := range r.names(deviceTree) {
		n := treeCache{dir: path.Join(deviceTree, name), level: 1}
		n.next = r.firstWord(n.dir+"/l2-cache", n.dir+"/next-level-cache")
		switch kind, _ := r.text(n.dir + "/device_type"); kind {
		case "cpu":
			threads := r.words(n.dir + "/ibm,ppc-interrupt-server#s")
			if threads == nil {
				threads = r.words(n.dir + "/reg")
			}
			for _, cpu := range threads {
				if cpu < maxCPU {
					n.set = n.set.with(int(cpu))
				}
			}
			n.set = n.set.and(t.online)
			cores = append(cores, n)
		case "cache":
			if number := r.firstWord(n.dir+"/ibm,phandle", n.dir+"/phandle", n.dir+"/linux,phandle"); number != 0 {
				caches[number] = &n
			}
		}
	}
	for _, core := range cores {
		next, level := caches[core.next], 2
		for ; next != nil && !core.set.within(next.set); next, level = caches[next.next], level+1 {
			next.set, next.level = next.set.or(core.set), max(next.level, level)
		}
		t.addTreeCaches(r, core)
	}
	for _, c := range caches {
		t.addTreeCaches(r, *c)
	}
}

// addTreeCaches adds the data or unified and the instruction cache of a folder.
func (t *Topology) addTreeCaches(r *root, n treeCache) {
	unified := r.exists(n.dir + "/cache-unified")
	for _, k := range []struct{ prefix, kind string }{{"d", "data"}, {"i", "instruction"}} {
		file := func(what string) string { return n.dir + "/" + k.prefix + "-cache-" + what }
		size := r.firstWord(file("size"))
		if size == 0 || len(n.set) == 0 || unified && k.prefix == "i" {
			continue
		}
		c := profile.Cache{Level: n.level, Type: k.kind, SizeBytes: units.Bytes(size),
			LineBytes: units.Bytes(r.firstWord(file("line-size"))),
			Sets:      int(r.firstWord(file("sets"))), SharedBy: n.set.count(), Instances: 1}
		if unified {
			c.Type = "unified"
		}
		if c.Sets == 1 { // what POWER writes where it does not know
			c.Sets = 0
		}
		if c.Sets > 0 && c.LineBytes > 0 {
			c.Ways = int(c.SizeBytes) / (c.Sets * int(c.LineBytes))
		}
		t.insert(&Object{Type: cacheName(c), ID: -1, Cache: &c, set: n.set})
	}
}

// words reads big-endian 32-bit numbers, nil where there are none.
func (r *root) words(file string) (words []uint32) {
	data, err := r.read(strings.TrimPrefix(file, "/"))
	for ; err == nil && len(data) >= 4; data = data[4:] {
		words = append(words, binary.BigEndian.Uint32(data))
	}
	return words
}

// firstWord is the first number of the first file that has one, else zero.
func (r *root) firstWord(files ...string) uint32 {
	for _, file := range files {
		if w := r.words(file); len(w) > 0 {
			return w[0]
		}
	}
	return 0
}
