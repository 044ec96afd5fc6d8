package probe

import (
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jaypipes/pcidb"
	"github.com/jaypipes/pcidb/types"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Which cards there are is read from the kernel alone: PCI devices of the display and accelerator classes, and what
// /sys/class/drm shows beyond PCI (Apple's, Arm's and Qualcomm's). Whether one can be used is another question, which
// gpu.go asks the CUDA driver; here no driver is touched, so that a capture shows its cards as the live machine does.

const (
	pciDir = "sys/bus/pci/devices"
	drmDir = "sys/class/drm"
)

// cardVendors are makers of displays and accelerators by PCI vendor id, as pci.ids has them in longer words.
var cardVendors = map[string]string{"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x1ed5": "Moore Threads",
	"0x1da3": "Habana", "0x1e52": "Tenstorrent", "0x19e5": "Huawei", "0x9999": "MetaX", "0x0014": "Loongson",
	"0x1a03": "ASPEED", "0x102b": "Matrox", "0x126f": "Silicon Motion", "0x1013": "Cirrus Logic", "0x1af4": "virtio",
	"0x1b36": "QXL", "0x1234": "QEMU", "0x15ad": "VMware", "0x1414": "Hyper-V", "0x80ee": "VirtualBox"}

// readCards lists the machine's cards.
func (rd *reading) readCards() {
	var names *pcidb.DB
	for _, bus := range slices.Sorted(slices.Values(rd.root.names(pciDir))) {
		c, ok := rd.readPCICard(bus)
		if !ok {
			continue
		}
		if names == nil {
			names = pciNames(rd.root.dir)
		}
		c.Vendor = cmp.Or(c.Vendor, vendorName(names, c.PCIID))
		c.Name = cardName(names, c)
		rd.settle(&c)
		rd.h.Cards = append(rd.h.Cards, c.Card)
	}
	rd.readPlatformCards()
}

// foundCard is a card with the folder that tells of it.
type foundCard struct {
	profile.Card
	dir string
}

func (rd *reading) readPCICard(bus string) (foundCard, bool) {
	r := rd.root
	c := foundCard{dir: path.Join(pciDir, bus)}
	class, err := r.number(c.dir + "/class")
	display, accelerator := class>>16 == 0x03, class>>16 == 0x12
	id, _ := r.text(c.dir + "/vendor")
	if err != nil || id == "" || !display && !accelerator {
		return c, false
	}
	device, _ := r.text(c.dir + "/device")
	c.Card = profile.Card{Vendor: cardVendors[id], PCIBusID: bus, Driver: r.link(c.dir + "/driver"),
		PCIID: strings.TrimPrefix(id, "0x") + ":" + strings.TrimPrefix(device, "0x"), Node: rd.drmNode(bus),
		Source: profile.Sources{"default": "reported: /" + c.dir}}
	return c, true
}

// link is the last part of where a link points, "" where it is none.
func (r *root) link(file string) string {
	to, err := r.fs.Readlink(file)
	if err != nil {
		return ""
	}
	return path.Base(to)
}

// drmNode is the drm card of a PCI device, "" where no driver made one.
func (rd *reading) drmNode(bus string) string {
	for _, name := range rd.root.names(path.Join(pciDir, bus, "drm")) {
		if strings.HasPrefix(name, "card") {
			return name
		}
	}
	for _, id := range rd.root.numbered(drmDir, "card").list() {
		if name := fmt.Sprintf("card%d", id); rd.root.link(path.Join(drmDir, name, "device")) == bus {
			return name
		}
	}
	return ""
}

// settle reads what the driver tells of memory and clocks, and what follows from maker and driver.
func (rd *reading) settle(c *foundCard) {
	r := rd.root
	c.VRAMBytes, c.VRAMUsedBytes = rd.cardSize(c, "vram", "total"), rd.cardSize(c, "vram", "used")
	c.GTTBytes, c.GTTUsedBytes = rd.cardSize(c, "gtt", "total"), rd.cardSize(c, "gtt", "used")
	c.HostBandwidthBytesPerS = linkRate(r, c.dir)
	c.ClockHz = topClock(r, c.dir)
	switch c.Vendor {
	case "AMD":
		rd.integrate(c)
		c.serve("ROCm or Vulkan", "amdgpu", "vulkan")
		if c.Backends != nil && r.exists("sys/class/kfd/kfd") {
			c.Backends = []string{"rocm", "vulkan"}
		}
	case "Intel":
		if c.Driver == "intel_vpu" {
			c.Why = noEngine
			return
		}
		rd.integrateIntel(c)
		c.serve("Vulkan or SYCL", "i915 xe", "vulkan", "sycl")
		if c.VRAMBytes == nil && !c.Unified {
			c.VRAMBytes, c.WindowBytes = localMemory(r, c.dir), window(r, c.dir)
		}
	case "NVIDIA": // gpu.go knows whether CUDA serves it
	case "Hyper-V":
		if c.Why = noEngine; c.PCIID == windowsCard {
			c.Name, c.Why = "a card of Windows'", "CUDA alone says whether it is NVIDIA's; a container sees it with --gpus all"
		}
	default:
		c.Why = noEngine
	}
}

// cardSize is one of amdgpu's counts of a memory, nil where the driver keeps none or what it says is no size: that is
// told under unknown.
func (rd *reading) cardSize(c *foundCard, memory, what string) *units.Bytes {
	file := c.dir + "/mem_info_" + memory + "_" + what
	if !rd.root.exists(file) {
		return nil
	}
	n, err := rd.root.number(file)
	if err == nil && n < 0 {
		err = fmt.Errorf("/%s: %d is no size", file, n)
	}
	if err != nil {
		key := strings.TrimSuffix(memory+"_"+what, "_total") + "_bytes"
		rd.unknown(fmt.Sprintf("cards[%d].%s", len(rd.h.Cards), key), err)
		return nil
	}
	return new(units.Bytes(n))
}

// windowsCard is the PCI id of what Windows shows a virtual machine, WSL2 among them, in place of each of its cards
// (GPU-PV, dxgkrnl). A library that Windows brings reaches the card; nothing on the bus tells which it is.
const windowsCard = "1414:008e"

const noEngine = "no engine that vlmem knows computes on it"

// serve says what engines reach a card through and with which kernel drivers, or why they do not.
func (c *foundCard) serve(through, drivers string, backends ...string) {
	switch {
	case c.Driver == "":
		c.Why = "no kernel driver is bound to it"
	case c.Driver == "vfio-pci":
		c.Why = "bound to vfio-pci for a virtual machine: use it from there"
	case !slices.Contains(strings.Fields(drivers), c.Driver):
		c.Why = fmt.Sprintf("its kernel driver is %s, and engines compute on it with %s alone", c.Driver,
			strings.ReplaceAll(drivers, " ", " or "))
	default:
		c.Backends = backends
		c.Why = "vlmem computes on cards through CUDA, which is NVIDIA's alone: engines use this one through " + through
	}
}

// localMemory is an Intel card's memory where xe (until Linux 6.8) or i915 outside of Linux tells of it: others answer
// to Vulkan alone.
func localMemory(r *root, dir string) *units.Bytes {
	files := []string{dir + "/tile0/physical_vram_size_bytes"}
	for _, name := range r.names(dir + "/drm") {
		files = append(files, path.Join(dir, "drm", name, "lmem_total_bytes"))
	}
	for _, file := range files {
		if n, err := r.number(file); err == nil && n > 0 {
			b := units.Bytes(n)
			return &b
		}
	}
	return nil
}

// leastWindow is above the 256 MiB that cards show where the firmware knows no other size.
const leastWindow = units.GiB

// window is what of an Intel card's memory the processor can reach, its third region on the bus, "0x4000000000
// 0x43ffffffff 0x14220c": where it was resized it is all of the memory, up to a power of two. Nil where it was not.
func window(r *root, dir string) *units.Bytes {
	text, _ := r.text(dir + "/resource")
	lines := strings.Split(text, "\n")
	if len(lines) < 3 {
		return nil
	}
	var first, last uint64
	if n, err := fmt.Sscanf(lines[2], "0x%x 0x%x", &first, &last); n != 2 || err != nil || last < first ||
		last-first >= noLimit {
		return nil
	}
	if size := units.Bytes(last - first + 1); size >= leastWindow {
		return &size
	}
	return nil
}

// linkRate is what the bus of a card can do one way: lanes times the rate of its generation, less the line code.
func linkRate(r *root, dir string) units.Rate {
	speed, err := r.text(dir + "/max_link_speed") // "16.0 GT/s PCIe"
	lanes, laneErr := r.int(dir + "/max_link_width")
	f := strings.Fields(speed)
	if err != nil || laneErr != nil || len(f) == 0 || lanes <= 0 || lanes > 32 {
		return 0
	}
	transfers, err := strconv.ParseFloat(f[0], 64)
	if err != nil {
		return 0
	}
	code := 128.0 / 130
	if transfers < 8 { // generations 1 and 2
		code = 8.0 / 10
	}
	return units.Rate(transfers * 1e9 * code / 8 * float64(lanes))
}

// topClock is the highest shader clock that amdgpu lists, "2: 2482Mhz *".
func topClock(r *root, dir string) float64 {
	text, _ := r.text(dir + "/pp_dpm_sclk")
	top := 0.0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimRight(strings.ToLower(f[1]), "mhz"), 64); err == nil {
			top = max(top, v*1e6)
		}
	}
	return top
}

// readPlatformCards adds the cards that no bus lists: a drm device whose driver's description names a renderer.
func (rd *reading) readPlatformCards() {
	r := rd.root
	for _, id := range r.numbered(drmDir, "card").list() {
		node := fmt.Sprintf("card%d", id)
		dir := path.Join(drmDir, node, "device")
		event, err := r.text(dir + "/uevent")
		if err != nil || strings.Contains(event, "PCI_ID=") {
			continue
		}
		driver, _ := eventField(event, "DRIVER")
		if compatible := coreOf(event); platformVendors[driver] != "" {
			rd.h.Cards = append(rd.h.Cards, profile.Card{Vendor: platformVendors[driver],
				Name: platformVendors[driver] + " " + cmp.Or(appleCores[compatible], compatible, "graphics"), Driver: driver,
				Node:    node,
				Unified: true, Backends: []string{"vulkan"},
				Why:    "vlmem computes on cards through CUDA, which is NVIDIA's alone: engines use this one through Vulkan",
				Source: profile.Sources{"default": "reported: /" + dir + "/uevent"}})
		}
	}
}

// platformVendors are the drm drivers of renderers in chips, by kernel driver.
var platformVendors = map[string]string{"asahi": "Apple", "panfrost": "Arm Mali", "panthor": "Arm Mali",
	"msm": "Qualcomm Adreno", "msm_dpu": "Qualcomm Adreno", "adreno": "Qualcomm Adreno", "v3d": "Broadcom VideoCore",
	"etnaviv": "Vivante", "powervr": "Imagination PowerVR"}

// appleCores are the graphics of Apple's chips (Linux, arch/arm64/boot/dts/apple).
var appleCores = map[string]string{"apple,agx-g13g": "M1 (AGX G13G)", "apple,agx-g13s": "M1 Pro (AGX G13S)",
	"apple,agx-g13c": "M1 Max (AGX G13C)", "apple,agx-g13d": "M1 Ultra (AGX G13D)", "apple,agx-g14g": "M2 (AGX G14G)",
	"apple,agx-g14s": "M2 Pro (AGX G14S)", "apple,agx-g14c": "M2 Max (AGX G14C)",
	"apple,agx-g14d": "M2 Ultra (AGX G14D)"}

// coreOf is the first of a device's compatible strings that names a known core, else the first of all: Apple's list the
// chip ("apple,agx-t8103") before the core.
func coreOf(event string) string {
	first, _ := eventField(event, "OF_COMPATIBLE_0")
	for i := 0; ; i++ {
		compatible, ok := eventField(event, fmt.Sprintf("OF_COMPATIBLE_%d", i))
		if !ok {
			return first
		}
		if appleCores[compatible] != "" {
			return compatible
		}
	}
}

func eventField(event, key string) (string, bool) {
	for line := range strings.Lines(event) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return value, true
		}
	}
	return "", false
}

//go:embed graphics.ids
var graphicsIDs string

// pciNames is the table of names that is installed below root, nil where there is none.
func pciNames(root string) *pcidb.DB {
	for _, file := range []string{"usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"} {
		file = filepath.Join(root, file)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if db, err := pcidb.New(types.WithPath(file)); err == nil {
			return db
		}
	}
	return nil
}

// vendorName is the installed name of a maker of no card vendor's, else its number.
func vendorName(db *pcidb.DB, id string) string {
	id, _, _ = strings.Cut(id, ":")
	if db != nil && db.Vendors[id] != nil {
		return db.Vendors[id].Name
	}
	return "PCI vendor " + id
}

// cardName is the installed name, else that of the table kept here, else the ids.
func cardName(db *pcidb.DB, c foundCard) string {
	if db != nil {
		if p := db.Products[strings.ReplaceAll(c.PCIID, ":", "")]; p != nil {
			return c.Vendor + " " + p.Name
		}
	}
	for line := range strings.Lines(graphicsIDs) {
		if name, ok := strings.CutPrefix(line, c.PCIID+" "); ok {
			return c.Vendor + " " + strings.TrimSpace(name)
		}
	}
	return c.Vendor + " card " + c.PCIID
}
