package probe

import (
	"errors"
	"slices"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// hypervisor names what the machine runs under, "" for none or unknown. CPUID tells the live machine's; a capture's
// shows in the firmware's strings, in what S/390 and PowerPC tell, or in the graphics that the hypervisor makes up.
func (rd *reading) hypervisor() string {
	r := rd.root
	if r.live && cpuid.CPU.Has(cpuid.HYPERVISOR) {
		return strings.ToLower(cpuid.CPU.HypervisorVendorID.String())
	}
	if kind, err := r.text("sys/hypervisor/type"); err == nil {
		return kind
	}
	for _, ask := range []func(*root) string{firmwareHypervisor, mainframeHypervisor, powerHypervisor, pciHypervisor} {
		if name := ask(r); name != "" {
			return name
		}
	}
	if slices.Contains(rd.info.flags, "hypervisor") {
		rd.unknown("system.hypervisor", errors.New("there is one, and no file names it"))
	}
	return ""
}

// firmwareHypervisor reads the names that a virtual machine's firmware gives itself.
func firmwareHypervisor(r *root) string {
	for _, file := range []string{"sys_vendor", "product_name", "bios_vendor"} {
		text, err := r.text("sys/class/dmi/id/" + file)
		if err != nil {
			continue
		}
		if _, name := firmwareWord(text); name != "" {
			return name
		}
	}
	return ""
}

// firmwareWord is the word of a firmware's string that names a hypervisor, and the hypervisor, "" for none.
func firmwareWord(text string) (word, name string) {
	for _, v := range []struct{ word, name string }{
		{"QEMU", "qemu"}, {"KVM", "kvm"}, {"VMware", "vmware"}, {"VirtualBox", "virtualbox"}, {"Xen", "xen"},
		{"Amazon EC2", "kvm"}, {"Google Compute Engine", "kvm"}, {"Virtual Machine", "hyperv"},
	} {
		if strings.Contains(text, v.word) {
			return v.word, v.name
		}
	}
	return "", ""
}

// mainframeHypervisor reads S/390's /proc/sysinfo, which names the control program of each layer, the innermost first.
// Below them all is a partition of the machine's own, which PR/SM runs.
func mainframeHypervisor(r *root) string {
	_, program, _ := strings.Cut(r.field("proc/sysinfo", "VM00 Control Program"), ":")
	switch program = strings.ToLower(program); {
	case strings.Contains(program, "kvm"):
		return "kvm"
	case strings.Contains(program, "z/vm"):
		return "z/vm"
	case r.field("proc/sysinfo", "LPAR Number") != "":
		return "pr/sm"
	}
	return ""
}

// powerHypervisor reads PowerPC's device tree: a partition that a management console rules is under pHyp, and QEMU says
// so.
func powerHypervisor(r *root) string {
	const tree = "proc/device-tree/"
	switch compatible, _ := r.text(tree + "compatible"); {
	case strings.Contains(compatible, "qemu,pseries"):
		return "kvm"
	case r.exists(tree+"ibm,partition-name") && r.exists(tree+"hmc-managed?"):
		return "phyp"
	}
	return ""
}

// pciHypervisor knows the graphics of virtual machines by vendor and device; lines of /proc/bus/pci/devices have both
// second.
func pciHypervisor(r *root) string {
	text, _ := r.text("proc/bus/pci/devices") // absent on machines without PCI
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[1] {
		case "80eebeef":
			return "virtualbox"
		case "15ad0405", "15ad0710":
			return "vmware"
		case "58530001":
			return "xen"
		}
	}
	return ""
}
