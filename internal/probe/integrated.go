package probe

import (
	"path"
	"regexp"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// Whether a card is a part of the processor decides what its memory is: the host's, or its own. The kernel's drivers
// know and do not tell, so it is read from what they do tell. A name of the tables settles it; ids that came after them
// are judged by where the card sits and what its memory is called, and where that says nothing by sizes, which is an
// assumption.

// apuNames are AMD's processors with graphics, by the names of pci.ids: the VRAM that the kernel shows of them is a
// part of the host's memory that the firmware set aside.
var apuNames = regexp.MustCompile(`Kaveri|Carrizo|Stoney|Raven|Picasso|Renoir|Lucienne|Cezanne|Barcelo|Van ?Gogh|` +
	`Mendocino|Rembrandt|Raphael|Phoenix|Hawk ?Point|Strix|Krackan|Granite Ridge|MI300A`)

// mostCarveOut is what firmware sets aside for graphics unless it is told to give more; AMD's own cards have had more
// for years, but for a few, whose names are known.
const mostCarveOut = 4 * units.GiB

// processorAMD is the vendor of what AMD's processors have on their own buses: their cards', 0x1002, is another.
const processorAMD = "0x1022"

// integrate says of an AMD card whether it is a part of the processor, and why where no table names it.
func (rd *reading) integrate(c *foundCard) {
	r := rd.root
	maker, _ := r.text(c.dir + "/mem_info_vram_vendor") // "unknown" of a processor's
	source := ""
	switch named := !strings.HasSuffix(c.Name, " card "+c.PCIID); {
	case named:
		c.Unified = apuNames.MatchString(c.Name)
		return
	case rd.besideProcessor(c.PCIBusID):
		c.Unified, source = true, "derived: functions of an AMD processor sit in the same place of the bus"
	case onFirstBus(c.PCIBusID):
		c.Unified, source = true, "assumed: on the processor's own bus"
	case maker != "" && maker != "unknown":
		source = "derived: its memory is " + maker + "'s"
	case c.VRAMBytes == nil || c.GTTBytes == nil:
		source = "assumed: nothing says that it is a part of the processor"
	case *c.VRAMBytes <= mostCarveOut && *c.VRAMBytes < *c.GTTBytes:
		c.Unified, source = true, "assumed: no table names it, and what it has is as little as firmware sets aside"
	default:
		source = "assumed: no table names it, and it has more than firmware sets aside"
	}
	c.Source["unified_memory"] = source
}

func onFirstBus(bus string) bool { return strings.HasPrefix(bus, "0000:00:") }

// besideProcessor is whether other functions of a device are an AMD processor's, its security processor or USB.
func (rd *reading) besideProcessor(bus string) bool {
	place, _, _ := strings.Cut(bus, ".")
	for _, other := range rd.root.names(pciDir) {
		if strings.HasPrefix(other, place+".") {
			if vendor, _ := rd.root.text(path.Join(pciDir, other, "vendor")); vendor == processorAMD {
				return true
			}
		}
	}
	return false
}

// discreteIntel are Intel's cards with memory of their own, by the names of pci.ids.
var discreteIntel = regexp.MustCompile(`\b(DG1|DG2|Battlemage|BMG|Ponte Vecchio|ATS-M|Data Center GPU)\b`)

// integrateIntel says of an Intel card whether it is a part of the processor. Integrated graphics sit on the first bus,
// and so does whatever an i440fx virtual machine was given; but they have no memory, nor a window on the bus to it.
func (rd *reading) integrateIntel(c *foundCard) {
	c.Unified = onFirstBus(c.PCIBusID) && localMemory(rd.root, c.dir) == nil && window(rd.root, c.dir) == nil &&
		!discreteIntel.MatchString(c.Name)
}
