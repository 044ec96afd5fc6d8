package probe

import (
	_ "embed"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
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

// cardVendors are the makers whose devices engines compute on, by PCI vendor id. Emulated and server-board displays
// (virtio, QEMU, ASPEED, Matrox) are no cards in this sense.
var cardVendors = map[string]string{"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x1ed5": "Moore Threads"}

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
		c.Name = cardName(names, c)
		c.settle(rd.root)
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
	vendor, known := cardVendors[id]
	if err != nil || !known || !display && !accelerator {
		return c, false
	}
	device, _ := r.text(c.dir + "/device")
	c.Card = profile.Card{Vendor: vendor, PCIBusID: bus, Driver: r.link(c.dir + "/driver"),
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
func (c *foundCard) settle(r *root) {
	size := func(name string) *units.Bytes {
		n, err := r.number(c.dir + "/" + name)
		if err != nil || n < 0 {
			return nil
		}
		b := units.Bytes(n)
		return &b
	}
	c.VRAMBytes, c.VRAMUsedBytes = size("mem_info_vram_total"), size("mem_info_vram_used") // amdgpu
	c.GTTBytes, c.GTTUsedBytes = size("mem_info_gtt_total"), size("mem_info_gtt_used")
	c.HostBandwidthBytesPerS = linkRate(r, c.dir)
	c.ClockHz = topClock(r, c.dir)
	switch c.Vendor {
	case "AMD":
		c.Unified = regexp.MustCompile(apuNames).MatchString(c.Name)
		c.Why = "vlmem computes on cards through CUDA, which is NVIDIA's alone: engines use this one through ROCm or Vulkan"
		c.Backends = []string{"vulkan"}
		if c.Driver == "amdgpu" && r.exists("sys/class/kfd/kfd") {
			c.Backends = []string{"rocm", "vulkan"}
		}
	case "Intel":
		c.Unified = strings.HasPrefix(c.PCIBusID, "0000:00:")
		c.Why = "vlmem computes on cards through CUDA, which is NVIDIA's alone: engines use this one through Vulkan or SYCL"
		c.Backends = []string{"vulkan", "sycl"}
		if c.VRAMBytes == nil && !c.Unified {
			c.VRAMBytes = localMemory(r, c.dir)
		}
	default:
		c.Backends = nil // gpu.go knows whether CUDA serves it
	}
	if c.Driver == "" && c.Why != "" {
		c.Why, c.Backends = "no kernel driver is bound to it", nil
	}
}

// apuNames are AMD's processors with graphics, by the names of pci.ids: the VRAM that the kernel shows of them is a
// part of the host's memory that the firmware set aside.
const apuNames = `Kaveri|Carrizo|Stoney|Raven|Picasso|Renoir|Lucienne|Cezanne|Barcelo|Van ?Gogh|Mendocino|Rembrandt|` +
	`Raphael|Phoenix|Hawk ?Point|Strix|Krackan|Granite Ridge|MI300A`

// localMemory is the largest of an Intel card's memory regions that xe or i915 tells of.
func localMemory(r *root, dir string) *units.Bytes {
	for _, name := range r.names(dir + "/drm") {
		for _, file := range []string{"lmem_total_bytes", "tile0/vram0/total_bytes", "gt/gt0/lmem_total_bytes"} {
			if n, err := r.number(path.Join(dir, "drm", name, file)); err == nil && n > 0 {
				b := units.Bytes(n)
				return &b
			}
		}
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
		if compatible, _ := eventField(event, "OF_COMPATIBLE_0"); platformVendors[driver] != "" {
			rd.h.Cards = append(rd.h.Cards, profile.Card{Vendor: platformVendors[driver],
				Name: strings.TrimSpace(platformVendors[driver] + " " + compatible), Driver: driver, Node: node,
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
