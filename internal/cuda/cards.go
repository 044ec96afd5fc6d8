package cuda

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Card is an NVIDIA display controller that the kernel shows, with or without a working driver.
type Card struct {
	BusID    string // "0000:01:00.0"
	DeviceID int    // PCI device id
	Driver   string // kernel driver bound to it: nvidia, nouveau, vfio-pci; "" where none is
}

// Cards lists the NVIDIA cards under root/sys/bus/pci/devices. A machine without PCI has none.
func Cards(root string) ([]Card, error) {
	folder := filepath.Join(root, "sys/bus/pci/devices")
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing PCI devices: %w", err)
	}
	var cards []Card
	for _, e := range entries {
		at := filepath.Join(folder, e.Name())
		const nvidia, display = 0x10de, 0x03
		if id, ok := hexFile(at, "vendor"); !ok || id != nvidia {
			continue
		}
		if class, ok := hexFile(at, "class"); !ok || class>>16 != display {
			continue // the card's audio and USB functions carry the same vendor
		}
		card := Card{BusID: e.Name()}
		card.DeviceID, _ = hexFile(at, "device")
		if link, err := os.Readlink(filepath.Join(at, "driver")); err == nil {
			card.Driver = filepath.Base(link)
		}
		cards = append(cards, card)
	}
	return cards, nil
}

func hexFile(folder, name string) (int, bool) {
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return 0, false
	}
	v, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(string(data)), "0x"), 16, 32)
	return int(v), err == nil
}

// generation is cards whose last driver branch has passed.
type generation struct {
	name   string
	branch int    // the last driver that serves it
	cuda   string // the newest CUDA of that branch
	ids    [][2]int
}

// generations by PCI device id. Ranges: pci.ids 2023.04.10; branches: NVIDIA's list of legacy GPUs.
var generations = []generation{
	{"Tesla (2006)", 340, "6.5", [][2]int{{0x0190, 0x01ff}, {0x0400, 0x042f}, {0x05e0, 0x06bf}, {0x06e0, 0x06ff},
		{0x0a20, 0x0a7f}, {0x0ca0, 0x0cbf}, {0x10c0, 0x10df}}},
	{"Fermi", 390, "9.1", [][2]int{{0x06c0, 0x06df}, {0x0dc0, 0x0dff}, {0x0e22, 0x0e3b}, {0x0f00, 0x0f03},
		{0x1040, 0x10bf}, {0x1140, 0x1140}, {0x1200, 0x127f}}},
	{"Kepler", 470, "11.4", [][2]int{{0x0fc0, 0x0fff}, {0x1000, 0x103f}, {0x1180, 0x11ff}, {0x1280, 0x12bf}}},
	{"Maxwell", 580, "13.0", [][2]int{{0x1340, 0x17ff}}},
	{"Pascal", 580, "13.0", [][2]int{{0x15f0, 0x15ff}, {0x1b00, 0x1d80}}},
	{"Volta", 580, "13.0", [][2]int{{0x1d81, 0x1dff}}},
}

// generation is the card's, nil where the newest drivers still serve it. Later ranges lie within earlier ones.
func (c Card) generation() (found *generation) {
	for i := range generations {
		for _, ids := range generations[i].ids {
			if c.DeviceID >= ids[0] && c.DeviceID <= ids[1] {
				found = &generations[i]
			}
		}
	}
	return found
}

// Architecture names the generation of a card whose last driver branch has passed; "" is any other.
func (c Card) Architecture() string {
	if g := c.generation(); g != nil {
		return g.name
	}
	return ""
}

func (c Card) String() string {
	if a := c.Architecture(); a != "" {
		return fmt.Sprintf("a %s card (10de:%04x) at %s", a, c.DeviceID, c.BusID)
	}
	return fmt.Sprintf("an NVIDIA card (10de:%04x) at %s", c.DeviceID, c.BusID)
}

// KernelDriver is the version of the loaded NVIDIA kernel module, "" where none is, and whether it is the open one.
func KernelDriver(root string) (version string, open bool) {
	data, err := os.ReadFile(filepath.Join(root, "proc/driver/nvidia/version"))
	if err != nil {
		return "", false
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return regexp.MustCompile(`\d+\.\d+(\.\d+)?`).FindString(line), strings.Contains(line, "Open Kernel Module")
}

// Finding is what is wrong with one card.
type Finding struct {
	Card  Card
	Text  string // one line with the remedy
	fault string // the line without the card: equal where cards share what is wrong with the machine
	// Hidden: the driver serves the card and does not show it to this process, as in a container that is given
	// others. That is as somebody wanted it.
	Hidden bool
}

// Diagnose says why cards under root cannot be used, given what Open or Devices answered and the PCI addresses that
// the driver lists. Cards that answer are not spoken of.
func Diagnose(root string, err error, listed []string) []Finding {
	cards, listing := Cards(root)
	if listing != nil {
		return nil
	}
	version, open := KernelDriver(root)
	m := facts{root: root, version: version, open: open, err: err, code: codeOf(err), listed: len(listed)}
	m.branch, _ = strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	var found []Finding
	for _, c := range cards {
		if err == nil && slices.Contains(listed, c.BusID) {
			continue
		}
		found = append(found, m.diagnose(c))
	}
	return found
}

// Lines is the findings that are worth a warning: all but what is hidden. The machine's own faults are told once, not
// for each of its cards.
func Lines(found []Finding) (lines []string) {
	for i, f := range found {
		same := func(o Finding) bool { return o.fault == f.fault }
		if !f.Hidden && slices.IndexFunc(found, same) == i {
			lines = append(lines, f.Text)
		}
	}
	return lines
}

func codeOf(err error) Code {
	var u *Unavailable
	var e *Error
	switch {
	case errors.As(err, &u):
		return u.Code
	case errors.As(err, &e):
		return e.Code
	}
	return Success
}

// facts are what a diagnosis compares: what PCI lists, what is bound, what the library answered, and how
// many cards the driver lists.
type facts struct {
	root    string
	version string // of the loaded kernel module, "" for none
	branch  int
	open    bool
	err     error
	code    Code
	listed  int
}

func (m facts) diagnose(c Card) Finding {
	say := func(format string, args ...any) Finding {
		fault := fmt.Sprintf(format, args...)
		return Finding{Card: c, Text: c.String() + " is present, but " + fault, fault: fault}
	}
	g := c.generation()
	want := "install the NVIDIA driver"
	if g != nil {
		want = fmt.Sprintf("install the proprietary %d.xx driver, the last branch for %s", g.branch, g.name)
	}
	if g != nil && g.branch < lastCUDA12Branch {
		want += fmt.Sprintf("; its CUDA ends at %s: CUDA 12 and what is built with it do not serve the card", g.cuda)
	}
	var missing *Unavailable
	switch unavailable := errors.As(m.err, &missing); {
	case unavailable && missing.Path == "":
		return say("this vlmem was %s", missing.Reason)
	case c.Driver == "vfio-pci":
		return say("bound to vfio-pci for a virtual machine: use it from there")
	case c.Driver == "nouveau":
		return say("bound to nouveau, which has no CUDA: %s", want)
	case g != nil && m.open:
		return say("the open kernel module %s never served %s: %s", m.version, g.name, want)
	case g != nil && m.branch > g.branch:
		return say("driver %s no longer serves it: %s", m.version, want)
	case m.listed > 0:
		f := say("not shown to this process: the container or CUDA_VISIBLE_DEVICES leaves it out, or see dmesg")
		f.Hidden = true
		return f
	}
	return say("%s", m.refusal(want))
}

// lastCUDA12Branch is the newest branch of which CUDA 12 is no part.
const lastCUDA12Branch = 525

// refusal says why the driver answers for no card at all.
func (m facts) refusal(want string) string {
	switch {
	case m.code == DriverMismatch:
		return fmt.Sprintf("libcuda does not match the loaded kernel module %s: reboot, or install the libcuda of that "+
			"version", m.version)
	case m.code == StubLibrary:
		return "the library found is the toolkit's stub: take the toolkit's stubs folder out of the library path"
	case m.code == SystemNotReady:
		return "the system is not ready: start nvidia-fabricmanager or nvidia-persistenced"
	case m.version == "" && m.err != nil && m.code != Success:
		return "the driver is installed and its kernel module is not loaded: " + m.loading()
	case m.version == "":
		return "no driver for it is installed: " + want
	case m.err != nil && m.code == Success:
		return fmt.Sprintf("kernel driver %s is loaded and its libcuda.so.1 is not found here: install it, or start the "+
			"container with the GPU", m.version)
	case m.code == UnknownError:
		return fmt.Sprintf("driver %s refuses with an unknown error, as after suspend: reload its memory module "+
			"(sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm), or reboot", m.version)
	case m.code == NoDevice || m.err == nil:
		return fmt.Sprintf("driver %s shows no device for it: see dmesg, and that CUDA_VISIBLE_DEVICES and the container "+
			"do not hide it", m.version)
	}
	return fmt.Sprintf("driver %s refuses: %v", m.version, m.err)
}

// loading is how to load the kernel module, with what the machine shows of why it is not.
func (m facts) loading() string {
	advice := "sudo modprobe nvidia"
	release, err := os.ReadFile(filepath.Join(m.root, "proc/sys/kernel/osrelease"))
	kernel := strings.TrimSpace(string(release))
	if built, _ := filepath.Glob(filepath.Join(m.root, "var/lib/dkms/nvidia*", "*", kernel)); err == nil &&
		len(built) == 0 && exists(filepath.Join(m.root, "var/lib/dkms")) {
		return advice + fmt.Sprintf("; dkms has not built it for kernel %s: sudo dkms autoinstall, with that kernel's "+
			"headers installed", kernel)
	}
	// The fifth byte of the firmware's variable, after four of attributes.
	boot, err := os.ReadFile(filepath.Join(m.root,
		"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"))
	if err == nil && len(boot) > 4 && boot[4] == 1 {
		return advice + "; Secure Boot is on and refuses a module that is not signed: enrol its key (mokutil --import)"
	}
	return advice + "; after a kernel update build it again (sudo dkms autoinstall), and with Secure Boot enrol its " +
		"signing key"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
