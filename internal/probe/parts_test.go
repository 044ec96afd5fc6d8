package probe

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// dividedMachine shows a whole card and one that is divided, both bound.
func dividedMachine() profile.Hardware {
	return profile.Hardware{Schema: profile.HardwareSchema, Cards: []profile.Card{
		{Vendor: "NVIDIA", Name: "NVIDIA GA102", PCIID: "10de:2204", PCIBusID: "0000:01:00.0", Driver: "nvidia"},
		{Vendor: "NVIDIA", Name: "NVIDIA GA100", PCIID: "10de:20b2", PCIBusID: "0000:c1:00.0", Driver: "nvidia"}}}
}

// checkParts holds the divided card, and two parts of 20 GiB of which the first is the one that CUDA shows.
func checkParts(t *testing.T, cards []profile.Card, visible bool) {
	t.Helper()
	if len(cards) != 4 || cards[0].Part != "" || cards[0].Name != "NVIDIA GA102" {
		t.Fatalf("%d cards: %+v", len(cards), cards)
	}
	if whole := cards[1]; whole.Visible || !strings.HasPrefix(whole.Why, "divided (MIG)") || whole.Part != "" {
		t.Errorf("the divided card: %+v", whole)
	}
	for i, p := range cards[2:] {
		if p.VRAMBytes == nil || *p.VRAMBytes != 20*units.GiB || p.PCIBusID != "0000:c1:00.0" || p.Part == "" ||
			p.Visible != (visible && i == 0) || (p.Why == "") != p.Visible {
			t.Errorf("part %d: %+v", i, p)
		}
	}
}

// TestPartsByNVML has the library; the CUDA driver shows one of the parts.
func TestPartsByNVML(t *testing.T) {
	h := dividedMachine()
	addParts(&h, askParts(standin.Management(t), "/"), []cuda.Device{{UUID: "GPU-1"}})
	checkParts(t, h.Cards, true)
	var out bytes.Buffer
	if _, err := Capture(smallMachine().lay(t), 0, h, &out); err != nil {
		t.Fatal(err)
	}
	replayed, text := untar(t, out.Bytes())
	if after, err := Reported(replayed); err != nil || len(after.Cards) != 4 || strings.Contains(text, "MIG-1") {
		t.Errorf("replayed %+v, %v", after.Cards, err)
	}
}

// TestPartsBySMI has no library: nvidia-smi is started where the kernel shows parts, and nowhere else.
func TestPartsBySMI(t *testing.T) {
	const mig = "<mig_device><index>%d</index><fb_memory_usage><total>20480 MiB</total><free>20000 MiB</free>" +
		"</fb_memory_usage></mig_device>"
	folder, root := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\ncat <<END\n<nvidia_smi_log><gpu id=\"00000000:C1:00.0\"><product_name>" +
		"NVIDIA A100</product_name>" +
		"<mig_devices>" + strings.ReplaceAll(mig, "%d", "0") + strings.ReplaceAll(mig, "%d", "1") +
		"</mig_devices><fb_memory_usage><total>81920 MiB</total></fb_memory_usage></gpu></nvidia_smi_log>\nEND\n"
	if err := os.WriteFile(filepath.Join(folder, "nvidia-smi"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	if smi := askParts("absent", root); !reflect.DeepEqual(smi, cuda.SMI{}) {
		t.Errorf("no card is divided, and nvidia-smi was asked: %+v", smi)
	}
	if err := os.MkdirAll(filepath.Join(root, "proc/driver/nvidia/capabilities/gpu0/mig/gi3"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := dividedMachine()
	addParts(&h, askParts("absent", root), nil)
	checkParts(t, h.Cards, false)
}
