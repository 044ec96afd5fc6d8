package cuda

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine lays out the files that Cards and KernelDriver read.
func machine(t *testing.T, device, class, bound, version string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := "sys/bus/pci/devices/0000:01:00.0/"
	write(at+"vendor", "0x10de")
	write(at+"device", device)
	write(at+"class", class)
	write("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086")
	if bound != "" {
		if err := os.Symlink("../../../../bus/pci/drivers/"+bound, filepath.Join(root, at, "driver")); err != nil {
			t.Fatal(err)
		}
	}
	if version != "" {
		write("proc/driver/nvidia/version", version)
	}
	return root
}

const (
	closed580 = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025"
	closed590 = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.44.01  Mon Dec  1 2025"
	open580   = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
)

func TestDiagnose(t *testing.T) {
	missing := &Unavailable{Path: "libcuda.so.1", Reason: "cannot open shared object file"}
	refused := func(c Code) error { return &Unavailable{Path: "libcuda.so.1", Reason: c.String(), Code: c} }
	const vga, audio, gtx1080, rtx3080 = "0x030000", "0x040300", "0x1b80", "0x2206"
	for name, c := range map[string]struct {
		device, class, bound, version string
		err                           error
		devices                       int
		want                          string // "" for nothing to say
	}{
		"works":                {gtx1080, vga, "nvidia", closed580, nil, 1, ""},
		"audio function alone": {gtx1080, audio, "", "", missing, 0, ""},
		"no driver": {gtx1080, vga, "", "", missing, 0,
			"no driver for it is installed: install the proprietary 580.xx driver"},
		"no driver, newer card": {rtx3080, vga, "", "", missing, 0,
			"no driver for it is installed: install the NVIDIA driver"},
		"Pascal after R580": {gtx1080, vga, "", closed590, refused(NoDevice), 0,
			"driver 590.44.01 no longer serves it: install the proprietary 580.xx driver, the last branch for Pascal"},
		"Pascal on open modules": {gtx1080, vga, "", open580, refused(NoDevice), 0,
			"the open kernel module 580.95.05 never served Pascal"},
		"nouveau":        {gtx1080, vga, "nouveau", "", missing, 0, "bound to nouveau"},
		"passed through": {gtx1080, vga, "vfio-pci", closed580, refused(NoDevice), 0, "bound to vfio-pci"},
		"mismatch": {gtx1080, vga, "nvidia", closed580, refused(DriverMismatch), 0,
			"does not match the loaded kernel module 580.95.05: reboot"},
		"stub":             {gtx1080, vga, "nvidia", closed580, refused(StubLibrary), 0, "toolkit's stub"},
		"container":        {gtx1080, vga, "nvidia", closed580, missing, 0, "start the container with the GPU"},
		"hidden":           {gtx1080, vga, "nvidia", closed580, refused(NoDevice), 0, "CUDA_VISIBLE_DEVICES"},
		"one of two shown": {gtx1080, vga, "nvidia", closed580, nil, 0, "shows no device for it"},
		"without cgo": {gtx1080, vga, "nvidia", closed580, &Unavailable{Reason: "built without cgo"}, 0,
			"built without cgo"},
		"after suspend": {rtx3080, vga, "nvidia", closed580, refused(UnknownError), 0, "modprobe nvidia_uvm"},
		"other":         {rtx3080, vga, "nvidia", closed580, refused(InvalidValue), 0, "refuses: "},
		"module not loaded": {rtx3080, vga, "", "", refused(NoDevice), 0,
			"its kernel module is not loaded: sudo modprobe nvidia"},
		"module not loaded, unknown error": {rtx3080, vga, "", "", refused(UnknownError), 0, "modprobe nvidia"},
		"Kepler": {"0x128b", vga, "nvidia", closed580, refused(NoDevice), 0,
			"driver 580.95.05 no longer serves it: install the proprietary 470.xx driver, the last branch for Kepler"},
		"Kepler, CUDA 12":       {"0x102d", vga, "", "", missing, 0, "its CUDA ends at 11.4"},
		"Fermi":                 {"0x0f02", vga, "nouveau", "", missing, 0, "390.xx"},
		"Kepler beside Fermi's": {"0x0fc6", vga, "nouveau", "", missing, 0, "470.xx"},
		"before Fermi":          {"0x0622", vga, "nouveau", "", missing, 0, "340.xx"},
	} {
		t.Run(name, func(t *testing.T) {
			var listed []string
			if c.devices > 0 {
				listed = []string{"0000:01:00.0"}
			}
			got := strings.Join(Lines(Diagnose(machine(t, c.device, c.class, c.bound, c.version), c.err, listed)), "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || strings.Contains(got, "\n") {
				t.Errorf("says %q, want one line with %q", got, c.want)
			}
		})
	}
	if got := Diagnose(t.TempDir(), missing, nil); got != nil {
		t.Errorf("a machine without PCI: %+v", got)
	}
}

// TestDiagnoseMissingCards: where some cards answer, the others alone are spoken of, and hidden ones are no fault.
func TestDiagnoseMissingCards(t *testing.T) {
	root := machine(t, "0x2204", "0x030000", "nvidia", closed580)
	second := filepath.Join(root, "sys/bus/pci/devices/0000:02:00.0")
	if err := os.MkdirAll(second, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"vendor": "0x10de", "device": "0x2206", "class": "0x030000"} {
		if err := os.WriteFile(filepath.Join(second, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found := Diagnose(root, nil, []string{"0000:01:00.0"})
	if len(found) != 1 || found[0].Card.BusID != "0000:02:00.0" || !found[0].Hidden || Lines(found) != nil {
		t.Errorf("a hidden card: %+v", found)
	}
	if err := os.Symlink("../../drivers/vfio-pci", filepath.Join(second, "driver")); err != nil {
		t.Fatal(err)
	}
	lines := Lines(Diagnose(root, nil, []string{"0000:01:00.0"}))
	if len(lines) != 1 || !strings.Contains(lines[0], "0000:02:00.0 is present, but bound to vfio-pci") {
		t.Errorf("a card passed through: %q", lines)
	}
}
