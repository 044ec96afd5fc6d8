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

// Architecture names the generations whose last driver branch has passed; "" is any other. Ranges: pci.ids 2023.04.10.
func (c Card) Architecture() string {
	switch id := c.DeviceID; {
	case id >= 0x1340 && id <= 0x17ff:
		return "Maxwell"
	case id >= 0x15f0 && id <= 0x15ff, id >= 0x1b00 && id <= 0x1d80:
		return "Pascal"
	case id >= 0x1d81 && id <= 0x1dff:
		return "Volta"
	}
	return ""
}

// lastLegacyBranch is the last driver branch for Maxwell, Pascal and Volta; the open kernel modules never served them.
const lastLegacyBranch = 580

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

// Diagnose says in one line why the cards under root cannot be used, given what Open or Devices answered and how many
// devices there were. It is "" where no card is present or every one answers. devices counts only where err is nil.
func Diagnose(root string, err error, devices int) string {
	cards, listing := Cards(root)
	if listing != nil || len(cards) == 0 || err == nil && devices >= len(cards) {
		return ""
	}
	card := cards[0]
	if i := slices.IndexFunc(cards, func(c Card) bool { return c.Architecture() != "" }); i >= 0 {
		card = cards[i]
	}
	version, open := KernelDriver(root)
	return card.diagnose(version, open, codeOf(err), err)
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

func (c Card) diagnose(version string, open bool, code Code, err error) string {
	branch, _ := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	legacy := c.Architecture() != ""
	want := "install the NVIDIA driver"
	if legacy {
		want = fmt.Sprintf("install the proprietary %d.xx driver, the last branch for %s", lastLegacyBranch, c.Architecture())
	}
	var noCgo *Unavailable
	switch {
	case errors.As(err, &noCgo) && noCgo.Path == "":
		return fmt.Sprintf("%s is present, but this vlmem was %s", c, noCgo.Reason)
	case code == DriverMismatch:
		return fmt.Sprintf("%s is present, but libcuda does not match the loaded kernel module %s: reboot, or install the libcuda of that version", c, version)
	case code == StubLibrary:
		return fmt.Sprintf("%s is present, but the library found is the toolkit's stub: take the toolkit's stubs folder out of the library path", c)
	case code == SystemNotReady:
		return fmt.Sprintf("%s is present, but the system is not ready: start nvidia-fabricmanager or nvidia-persistenced", c)
	case c.Driver == "vfio-pci":
		return fmt.Sprintf("%s is present, but bound to vfio-pci for a virtual machine: use it from there", c)
	case c.Driver == "nouveau":
		return fmt.Sprintf("%s is present, but bound to nouveau, which has no CUDA: %s", c, want)
	case legacy && open:
		return fmt.Sprintf("%s is present, but the open kernel module %s never served %s: %s", c, version, c.Architecture(),
			want)
	case legacy && branch > lastLegacyBranch:
		return fmt.Sprintf("%s is present, but driver %s no longer serves it: %s", c, version, want)
	case version != "" && code == Success && err != nil:
		return fmt.Sprintf("%s is present and kernel driver %s is loaded, but its libcuda.so.1 is not found here: install it, or start the container with the GPU", c, version)
	case version == "" || err != nil && code == Success:
		return fmt.Sprintf("%s is present, but no driver for it is installed: %s", c, want)
	case code == NoDevice || err == nil:
		return fmt.Sprintf("%s is present, but driver %s shows no device for it: see dmesg, and that CUDA_VISIBLE_DEVICES and the container do not hide it", c, version)
	}
	return fmt.Sprintf("%s is present, but driver %s refuses: %v", c, version, err)
}
