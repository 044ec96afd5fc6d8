package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// pciCard is a PCI device with a class of displays.
func pciCard(bus, vendor, device string, more machine) machine {
	dir := "sys/bus/pci/devices/" + bus + "/"
	m := machine{dir + "vendor": vendor + "\n", dir + "device": device + "\n", dir + "class": "0x030000\n"}
	for name, text := range more {
		m[dir+name] = text
	}
	return m
}

var cardsOfMakers = []struct {
	name   string
	files  machine
	driver string // bound to the card at 0000:03:00.0
	want   profile.Card
	vram   units.Bytes
}{
	{"amdgpu", pciCard("0000:03:00.0", "0x1002", "0x744c", machine{"mem_info_vram_total": "25753026560\n",
		"mem_info_vram_used": "1048576\n", "max_link_speed": "16.0 GT/s PCIe\n", "max_link_width": "16\n",
		"pp_dpm_sclk": "0: 500Mhz *\n1: 2482Mhz\n"}), "amdgpu",
		profile.Card{Vendor: "AMD", Name: "Navi 31", Driver: "amdgpu", ClockHz: 2482e6, Backends: []string{"vulkan"},
			HostBandwidthBytesPerS: units.Rate(16e9 * 128 / 130 / 8 * 16)}, 25753026560},
	{"an AMD processor's graphics", pciCard("0000:03:00.0", "0x1002", "0x1638",
		machine{"mem_info_vram_total": "536870912\n"}), "amdgpu",
		profile.Card{Vendor: "AMD", Name: "Cezanne", Driver: "amdgpu", Unified: true, Backends: []string{"vulkan"}},
		512 * units.MiB},
	{"no driver", pciCard("0000:03:00.0", "0x1002", "0x744c", nil), "",
		profile.Card{Vendor: "AMD", Name: "Navi 31"}, 0},
	{"Intel's Arc", pciCard("0000:03:00.0", "0x8086", "0x56a0", nil), "xe",
		profile.Card{Vendor: "Intel", Name: "Arc A770", Driver: "xe", Backends: []string{"vulkan", "sycl"}}, 0},
	{"one passed through", pciCard("0000:03:00.0", "0x1002", "0x744c", nil), "vfio-pci",
		profile.Card{Vendor: "AMD", Name: "Navi 31", Driver: "vfio-pci"}, 0},
	{"an old driver", pciCard("0000:03:00.0", "0x1002", "0x6808", nil), "radeon",
		profile.Card{Vendor: "AMD", Name: "Pitcairn", Driver: "radeon"}, 0},
	{"Intel's NPU", pciCard("0000:03:00.0", "0x8086", "0x7d1d", machine{"class": "0x120000\n"}), "intel_vpu",
		profile.Card{Vendor: "Intel", Name: "Meteor Lake NPU", Driver: "intel_vpu"}, 0},
	{"a server board's display", pciCard("0000:03:00.0", "0x1a03", "0x2000", nil), "ast",
		profile.Card{Vendor: "ASPEED", Name: "card 1a03:2000", Driver: "ast"}, 0},
	{"an accelerator of no maker here", pciCard("0000:03:00.0", "0x1e9f", "0x0001",
		machine{"class": "0x120000\n"}), "own", profile.Card{Vendor: "PCI vendor 1e9f", Name: "1e9f:0001",
		Driver: "own"}, 0},
	{"Xe's memory by tile", pciCard("0000:03:00.0", "0x8086", "0x56a1",
		machine{"tile0/physical_vram_size_bytes": "8589934592\n"}), "xe",
		profile.Card{Vendor: "Intel", Name: "Arc A750", Driver: "xe", Backends: []string{"vulkan", "sycl"}},
		8 * units.GiB},
	{"an unknown one", pciCard("0000:03:00.0", "0x1002", "0xfffe", nil), "amdgpu",
		profile.Card{Vendor: "AMD", Name: "card 1002:fffe", Driver: "amdgpu", Backends: []string{"vulkan"}}, 0},
}

// TestCardsOfEveryMaker names cards of every maker, with what their drivers tell of memory.
func TestCardsOfEveryMaker(t *testing.T) {
	for _, test := range cardsOfMakers {
		t.Run(test.name, func(t *testing.T) {
			dir := smallMachine().with(test.files).lay(t)
			if test.driver != "" {
				link := filepath.Join(dir, "sys/bus/pci/devices/0000:03:00.0/driver")
				if err := os.Symlink("../../../bus/pci/drivers/"+test.driver, link); err != nil {
					t.Fatal(err)
				}
			}
			h, err := Reported(dir)
			if err != nil || len(h.Cards) != 1 {
				t.Fatalf("cards %+v, %v", h.Cards, err)
			}
			c, want := h.Cards[0], test.want
			vram := units.Bytes(0)
			if c.VRAMBytes != nil {
				vram = *c.VRAMBytes
			}
			if c.Vendor != want.Vendor || !strings.Contains(c.Name, want.Name) || c.Driver != want.Driver ||
				c.Unified != want.Unified || c.ClockHz != want.ClockHz || c.Visible || c.Why == "" || vram != test.vram ||
				int(c.HostBandwidthBytesPerS/1e3) != int(want.HostBandwidthBytesPerS/1e3) ||
				strings.Join(c.Backends, " ") != strings.Join(want.Backends, " ") {
				t.Errorf("got %+v with %v\nwant %+v with %v", c, vram, want, test.vram)
			}
		})
	}
	h := reported(t, smallMachine().with(pciCard("0000:00:02.0", "0x1af4", "0x1050", nil)).with(machine{
		"sys/class/drm/card1/device/uevent": "DRIVER=asahi\nOF_COMPATIBLE_0=apple,agx-g13g\n"}))
	if len(h.Cards) != 2 || h.Cards[0].Vendor != "virtio" || h.Cards[0].Backends != nil || h.Cards[0].Why == "" ||
		h.Cards[1].Name != "Apple M1 (AGX G13G)" || !h.Cards[1].Unified {
		t.Errorf("an emulated display beside Apple's: %+v", h.Cards)
	}
}

// TestCardCounts: a full card has nothing left, a count that is no number is unknown with the reason.
func TestCardCounts(t *testing.T) {
	for used, want := range map[string]*units.Bytes{"25769803776\n": new(units.Bytes(0)), "oops\n": nil, "-1\n": nil} {
		dir := "sys/bus/pci/devices/0000:03:00.0/"
		m := smallMachine().with(pciCard("0000:03:00.0", "0x1002", "0x744c",
			machine{"mem_info_vram_total": "25769803776\n", "mem_info_vram_used": used})).lay(t)
		if err := os.Symlink("../drivers/amdgpu", filepath.Join(m, dir, "driver")); err != nil {
			t.Fatal(err)
		}
		h, err := Reported(m)
		if err != nil {
			t.Fatal(err)
		}
		g := h.EngineCard()
		if (g.FreeBytes == nil) != (want == nil) || want != nil && *g.FreeBytes != *want ||
			(h.Unknown["cards[0].vram_used_bytes"] == "") != (want != nil) {
			t.Errorf("%q: free %v, unknown %v", used, g.FreeBytes, h.Unknown)
		}
	}
}

// TestCardOnTheFirstBus: what has memory of its own is no integrated card, wherever it sits.
func TestCardOnTheFirstBus(t *testing.T) {
	c := reported(t, smallMachine().with(pciCard("0000:00:10.0", "0x8086", "0x56a0",
		machine{"drm/card0/lmem_total_bytes": "17179869184\n"}))).Cards[0]
	if c.Unified || c.VRAMBytes == nil || *c.VRAMBytes != 16*units.GiB {
		t.Errorf("%+v", c)
	}
	apple := reported(t, smallMachine().with(machine{"sys/class/drm/card1/device/uevent": "DRIVER=asahi\n" +
		"OF_COMPATIBLE_0=apple,agx-t8103\nOF_COMPATIBLE_1=apple,agx-g13g\n"})).Cards
	if len(apple) != 1 || apple[0].Name != "Apple M1 (AGX G13G)" {
		t.Errorf("%+v", apple)
	}
}

// TestUnknownIDs: ids of no table are judged by place, memory and sizes; what sizes alone say is assumed.
func TestUnknownIDs(t *testing.T) {
	sizes := func(vram, gtt units.Bytes) machine {
		return machine{"mem_info_vram_total": fmt.Sprint(int64(vram)), "mem_info_gtt_total": fmt.Sprint(int64(gtt))}
	}
	beside := pciCard("0000:03:00.2", "0x1022", "0xffff", machine{"class": "0x108000\n"})
	for _, test := range []struct {
		name, bus string
		files     machine
		beside    machine
		unified   bool
		why       string
	}{
		{"beside the processor's functions", "0000:03:00.0", sizes(64*units.GiB, 16*units.GiB), beside, true, "derived"},
		{"on its bus", "0000:00:01.0", sizes(units.GiB, 16*units.GiB), nil, true, "assumed"},
		{"memory with a maker", "0000:03:00.0", sizes(4*units.GiB, 16*units.GiB).with(
			machine{"mem_info_vram_vendor": "samsung\n"}), nil, false, "derived"},
		{"little set aside", "0000:03:00.0", sizes(512*units.MiB, 16*units.GiB).with(
			machine{"mem_info_vram_vendor": "unknown\n"}), nil, true, "assumed"},
		{"much of its own", "0000:03:00.0", sizes(32*units.GiB, 16*units.GiB), nil, false, "assumed"},
		{"nothing told", "0000:03:00.0", nil, nil, false, "assumed"},
	} {
		m := smallMachine().with(pciCard(test.bus, "0x1002", "0xfffe", test.files)).with(test.beside)
		cards := reported(t, m).Cards
		if c := cards[0]; len(cards) != 1 || c.Unified != test.unified ||
			!strings.HasPrefix(c.Source["unified_memory"], test.why) {
			t.Errorf("%s: %+v", test.name, cards)
		}
	}
	arc := pciCard("0000:00:10.0", "0x8086", "0x56a0", nil) // in an i440fx machine, and what it has nobody tells
	window := machine{"resource": "0 0 0\n0 0 0\n0x6000000000 0x61ffffffff 0x14220c\n", "device": "0xfffe\n"}
	other := pciCard("0000:00:10.0", "0x8086", "0", window)
	for name, files := range map[string]machine{"by name": arc, "by window": other} {
		if c := reported(t, smallMachine().with(files)).Cards[0]; c.Unified {
			t.Errorf("Intel's, %s: %+v", name, c)
		}
	}
}

// TestWindow: where the firmware resized it, the part of an Intel card's memory that the processor reaches is told.
func TestWindow(t *testing.T) {
	const rest = "0x0000004000000000 0x0000004000ffffff 0x000000000014220c\n0 0 0\n"
	for resource, want := range map[string]units.Bytes{
		rest + "0x0000006000000000 0x00000061ffffffff 0x000000000014220c\n": 8 * units.GiB,
		rest + "0x0000006000000000 0x000000600fffffff 0x000000000014220c\n": 0, // the 256 MiB of old firmware
		rest + "0x1 0x0 0x0\n": 0, rest: 0, "": 0, rest + "garbled\n": 0,
	} {
		m := smallMachine().with(pciCard("0000:03:00.0", "0x8086", "0x56a0", machine{"resource": resource}))
		c := reported(t, m).Cards[0]
		if got := c.WindowBytes; (got == nil) != (want == 0) || got != nil && *got != want {
			t.Errorf("%q: %v, want %v", resource, got, want)
		}
	}
}

// TestKinds: Arm cores differ by design, others by frequency where firmware does not merely spread it.
func TestKinds(t *testing.T) {
	cpuFile := func(name string, values ...string) machine {
		m := machine{}
		for cpu, v := range values {
			m["sys/devices/system/cpu/cpu"+string(rune('0'+cpu))+"/"+name] = v + "\n"
		}
		return m
	}
	arm := func(parts ...string) machine {
		text := ""
		for cpu, part := range parts {
			text += "processor\t: " + string(rune('0'+cpu)) + "\nCPU implementer\t: 0x41\nCPU part\t: " + part + "\n\n"
		}
		return machine{"proc/cpuinfo": text}
	}
	for _, test := range []struct {
		name  string
		files machine
		want  string
		model string
	}{
		{"spread by silicon", cpuFile("cpufreq/cpuinfo_max_freq", "5352000", "5700000", "6100000", "6640000"), "", ""},
		{"dense cores", cpuFile("cpufreq/cpuinfo_max_freq", "5100000", "5100000", "3300000", "3300000"),
			"performance 0-1 efficiency 2-3", ""},
		{"base frequency", cpuFile("cpufreq/base_frequency", "1400000", "1400000", "1900000", "1900000"),
			"performance 2-3 efficiency 0-1", ""},
		{"two designs, capacities spread", arm("0xd87", "0xd85", "0xd87", "0xd85").with(
			cpuFile("cpu_capacity", "718", "997", "731", "1024")), "performance 1,3 efficiency 0,2",
			"Cortex-X925 + Cortex-A725"},
		{"one design at three clocks", arm("0xd0b", "0xd0b", "0xd0b", "0xd0b").with(
			cpuFile("cpu_capacity", "871", "871", "1024", "1024")), "", "Cortex-A76"},
		{"a design of no table", arm("0xfff", "0xfff", "0xfff", "0xfff"), "", "Arm core 0x41:0xfff"},
		{"designs by register", cpuFile("regs/identification/midr_el1", "0x410fd4f0", "0x411fd4f1", "0x410fd4f0",
			"0x410fd4f0"), "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := reported(t, smallMachine().with(test.files)).CPU
			var got []string
			for _, k := range c.Kinds {
				got = append(got, k.Name+" "+profile.Ranges(k.CPUs))
			}
			if strings.Join(got, " ") != test.want || test.model != "" && c.Model != test.model {
				t.Errorf("kinds %q, model %q; want %q, %q", got, c.Model, test.want, test.model)
			}
		})
	}
}

// TestUndescribedCPUs: a phone's kernel lists CPUs as online and gives them no topology folder.
func TestUndescribedCPUs(t *testing.T) {
	m := smallMachine()
	for path := range m {
		if strings.HasPrefix(path, "sys/devices/system/cpu/cpu3/") {
			delete(m, path)
		}
	}
	m["sys/devices/system/cpu/cpu3/cpuidle"] = ""
	h := reported(t, m)
	if h.CPU.Threads != 4 || h.CPU.Cores != 3 || !strings.Contains(h.Unknown["cpu.cores"], "describes 3 of 4") {
		t.Errorf("%d threads, %d cores, %q", h.CPU.Threads, h.CPU.Cores, h.Unknown["cpu.cores"])
	}
}

// TestFlagsByArchitecture: AMD's sme is memory encryption.
func TestFlagsByArchitecture(t *testing.T) {
	for cpuinfo, want := range map[string]string{
		"processor: 0\nvendor_id: AuthenticAMD\nflags: avx2 sme\n":                              "avx2",
		"processor: 0\nCPU implementer: 0x41\nCPU part: 0xd87\nFeatures: fp asimd sve2 sme\n\n": "neon sve2 sme",
	} {
		h := reported(t, smallMachine().with(machine{"proc/cpuinfo": cpuinfo}))
		if got := strings.Join(h.CPU.ISA, " "); got != want {
			t.Errorf("%q: isa %s, want %s", cpuinfo, got, want)
		}
	}
}

// TestNamedProcess reads another process's groups and limits, and what it has mapped.
func TestNamedProcess(t *testing.T) {
	dir := smallMachine().with(machine{
		"proc/42/limits": "Limit  Soft\nMax address space         4294967296           unlimited            bytes\n",
		"proc/42/status": "VmSize:\t 1048576 kB\nCpus_allowed_list:\t1\n", "proc/42/cgroup": "0::/\n"}).lay(t)
	h, _, err := ReadFor(dir, 42)
	if err != nil {
		t.Fatal(err)
	}
	if b := h.Memory.Binding(); b.LeftBytes != 3*units.GiB || h.CPU.UsableThreads != 1 {
		t.Errorf("%+v, %d threads", b, h.CPU.UsableThreads)
	}
	if _, _, err := ReadFor(dir, 43); err == nil {
		t.Error("a process that is not there is read")
	}
}
