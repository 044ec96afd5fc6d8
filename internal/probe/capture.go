package probe

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// A capture is the files of /sys and /proc that this package reads, in a tar that Read replays with --root, and what
// the CUDA driver told of its cards in cardsFile. What names a person or a machine stays out: only the listed files are
// taken, each as anonymous gives it away, and of cards no UUID.

// cardsFile holds what the CUDA driver told, as JSON of profile.GPU.
const cardsFile = "vlmem-cards.json"

// partsFile holds all cards with what drivers told beyond the files of /sys: names, parts of divided cards, heaps.
const partsFile = "vlmem-parts.json"

// captured are the files of a capture, below the root.
var captured = []string{
	"proc/cpuinfo", "proc/meminfo", "proc/version", "proc/zoneinfo", "proc/pressure/memory",
	"proc/sys/kernel/osrelease", "proc/sys/vm/overcommit_memory", "proc/sys/vm/overcommit_ratio",
	"proc/sys/vm/admin_reserve_kbytes", "proc/sys/vm/user_reserve_kbytes", "proc/spl/kstat/zfs/arcstats",
	"proc/driver/nvidia/version", "proc/driver/nvidia/gpus/*/numa_status", "proc/device-tree/cpus/*/*",
	"proc/hwloc-nofile-info",
	"sys/devices/system/cpu/online", "sys/devices/system/cpu/possible", "sys/devices/system/cpu/present",
	"sys/devices/system/cpu/cpu[0-9]*/online", "sys/devices/system/cpu/cpu[0-9]*/topology/*",
	"sys/devices/system/cpu/cpu[0-9]*/cache/index[0-9]*/*", "sys/devices/system/cpu/cpu[0-9]*/cpu_capacity",
	"sys/devices/system/cpu/cpu[0-9]*/regs/identification/midr_el1",
	"sys/devices/system/cpu/cpu[0-9]*/cpufreq/base_frequency",
	"sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
	"sys/devices/cpu_*/cpus", "sys/devices/system/node/online", "sys/devices/system/node/node[0-9]*/meminfo",
	"sys/devices/system/node/node[0-9]*/cpumap", "sys/devices/system/node/node[0-9]*/cpulist",
	"sys/devices/system/node/node[0-9]*/distance", "sys/devices/system/node/node[0-9]*/memory_side_cache/index*/*",
	"sys/kernel/mm/transparent_hugepage/enabled", "sys/hypervisor/type", "sys/class/dmi/id/sys_vendor",
	"sys/class/dmi/id/product_name", "sys/class/dmi/id/bios_vendor",
	"sys/bus/pci/devices/*/vendor", "sys/bus/pci/devices/*/device", "sys/bus/pci/devices/*/class",
	"sys/bus/pci/devices/*/max_link_*", "sys/bus/pci/devices/*/mem_info_*", "sys/bus/pci/devices/*/pp_dpm_sclk",
	"sys/bus/pci/devices/*/drm/card*/lmem_total_bytes", "sys/class/drm/card[0-9]*/device/uevent",
	"sys/class/kfd/kfd/uevent",
}

// ofProcess are the files of the process that is looked at; a capture holds them as those of proc/self.
var ofProcess = []string{"status", "limits", "cgroup", "cpuset", "mountinfo", "numa_maps"}

// capturedLinks are links of which the last part counts.
var capturedLinks = []string{"sys/bus/pci/devices/*/driver", "sys/class/drm/card[0-9]*/device"}

// capture writes one tar.
type capture struct {
	root  *root
	tar   *tar.Writer
	hide  *anonymous
	count int
}

// Capture writes what Read reads below dir, for the process pid (0 for this one), with the cards of h, as a gzipped
// tar. It returns the number of files.
func Capture(dir string, pid int, h profile.Hardware, w io.Writer) (int, error) {
	r, err := openRoot(dir)
	if err != nil {
		return 0, err
	}
	defer r.close()
	if pid > 0 {
		r.self = fmt.Sprintf("proc/%d", pid)
	}
	zipped := gzip.NewWriter(w)
	names := hostNames(r)
	if name, err := os.Hostname(); err == nil && r.live {
		names = append(names, name)
	}
	c := capture{root: r, tar: tar.NewWriter(zipped), hide: newAnonymous(names...)}
	for _, stage := range []func() error{c.files, c.process, c.groups, c.links, func() error { return c.cards(h.GPUs) },
		func() error { return c.parts(h.Cards) }, c.tar.Close, zipped.Close} {
		if err := stage(); err != nil {
			return c.count, fmt.Errorf("writing the capture: %w", err)
		}
	}
	return c.count, nil
}

// put writes one file.
func (c *capture) put(name, text string) error {
	c.count++
	head := tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	if err := c.tar.WriteHeader(&head); err != nil {
		return err
	}
	_, err := io.WriteString(c.tar, text)
	return err
}

// copy puts a file of the root under another name. What cannot be read is left out, as Read will find it.
func (c *capture) copy(from, to string) error {
	data, err := c.root.read(from)
	if err != nil {
		return nil
	}
	return c.put(to, string(data))
}

func (c *capture) matches(pattern string) []string {
	list, err := fs.Glob(c.root.fs.FS(), pattern)
	if err != nil {
		return nil // the patterns are constants, and a folder that cannot be listed has no files
	}
	return list
}

func (c *capture) files() error {
	for _, pattern := range captured {
		for _, name := range c.matches(pattern) {
			data, err := c.root.read(name)
			text, may := c.hide.file(name, string(data))
			if err != nil || !may {
				continue
			}
			if err := c.put(name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *capture) process() error {
	for _, name := range ofProcess {
		text, err := c.root.text(c.root.self + "/" + name)
		if err != nil {
			continue
		}
		if err := c.put("proc/self/"+name, c.hide.processFile(name, text)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// groups puts what limits each group on the process's path.
func (c *capture) groups() error {
	var files []string
	for _, controller := range []string{"memory", "cpu", "cpuset"} {
		if at, _, ok := controllerMount(c.root, controller); ok {
			files = append(files, strings.TrimPrefix(path.Join(at.point, "cgroup.controllers"), "/"))
		}
		groups, err := controlGroups(c.root, controller)
		if err != nil {
			continue
		}
		for _, g := range groups {
			for _, base := range c.root.names(g.dir) { // no glob: systemd's names have backslashes
				if strings.HasPrefix(base, controller+".") && !strings.HasSuffix(base, "numa_stat") {
					files = append(files, path.Join(g.dir, base))
				}
			}
		}
	}
	slices.Sort(files)
	for _, name := range slices.Compact(files) {
		if err := c.copy(name, path.Join(c.hide.path(path.Dir(name)), path.Base(name))); err != nil {
			return err
		}
	}
	return nil
}

func (c *capture) links() error {
	for _, pattern := range capturedLinks {
		for _, name := range c.matches(pattern) {
			to := c.root.link(name)
			if to == "" {
				continue
			}
			head := tar.Header{Name: name, Linkname: to, Mode: 0o777, Typeflag: tar.TypeSymlink, Format: tar.FormatPAX}
			if err := c.tar.WriteHeader(&head); err != nil {
				return err
			}
		}
	}
	return nil
}

// cards puts what the driver told, without the cards' identities.
func (c *capture) cards(gpus []profile.GPU) error {
	if len(gpus) == 0 {
		return nil
	}
	gpus = slices.Clone(gpus)
	for i := range gpus {
		gpus[i].UUID = ""
	}
	data, err := json.MarshalIndent(gpus, "", " ")
	if err != nil {
		return err
	}
	return c.put(cardsFile, string(data)+"\n")
}

// parts puts all cards and the parts of divided ones, without identities.
func (c *capture) parts(cards []profile.Card) error {
	if len(cards) == 0 {
		return nil
	}
	cards = slices.Clone(cards)
	for i := range cards {
		p := &cards[i]
		if p.UUID != "" {
			p.Why, p.UUID = strings.ReplaceAll(p.Why, p.UUID, "MIG-…"), ""
		}
		p.Why = c.hide.hostless(p.Why)
	}
	data, err := json.MarshalIndent(cards, "", " ")
	if err != nil {
		return err
	}
	return c.put(partsFile, string(data)+"\n")
}

// readCapturedParts takes the cards that a capture holds in place of those of the bus, which tells less.
func (rd *reading) readCapturedParts() error {
	data, err := rd.root.read(partsFile)
	if err != nil {
		return nil // a capture of other tools, or of a machine without cards
	}
	var cards []profile.Card
	if err := json.Unmarshal(data, &cards); err != nil {
		return fmt.Errorf("/%s: %w", partsFile, err)
	}
	rd.h.Cards = cards
	return nil
}

// readCapturedCards takes the cards that a capture holds.
func (rd *reading) readCapturedCards() error {
	if err := rd.readCapturedParts(); err != nil {
		return err
	}
	data, err := rd.root.read(cardsFile)
	if err != nil {
		return err
	}
	var gpus []profile.GPU
	if err := json.Unmarshal(data, &gpus); err != nil {
		return fmt.Errorf("/%s: %w", cardsFile, err)
	}
	rd.h.GPUs = gpus
	for i := range rd.h.Cards {
		c := &rd.h.Cards[i]
		c.Visible = c.Visible || slices.ContainsFunc(gpus, func(g profile.GPU) bool { return g.PCIBusID == c.PCIBusID })
	}
	return nil
}
