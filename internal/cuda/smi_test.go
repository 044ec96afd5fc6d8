package cuda

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseSMI(t *testing.T) {
	data := os.Getenv("VLMEM_SHARED_DATA")
	if data == "" {
		data = "../../../shared/data"
	}
	for _, want := range []struct {
		file, driver, cuda, name, bus string
		mib                           int64
		generation, width             int
	}{
		{"telegraf_quadro-p2000-v12.xml", "525.125.06", "12.0", "Quadro P2000", "0000:17:00.0", 5120, 3, 16},
		{"telegraf_quadro-p400.xml", "418.43", "10.1", "Quadro P400", "0000:43:00.0", 1998, 3, 16},
		{"telegraf_rtx-3080-v13.xml", "595.58.03", "13.2", "NVIDIA GeForce RTX 3080", "0000:0c:00.0", 10240, 4, 16},
		{"telegraf_tesla-t4.xml", "515.105.01", "11.7", "Tesla T4", "0000:00:1e.0", 15360, 3, 16},
	} {
		t.Run(want.file, func(t *testing.T) {
			f, err := os.Open(filepath.Join(data, "gpu", want.file))
			if err != nil {
				t.Skipf("recorded nvidia-smi output is not here: %v", err)
			}
			defer f.Close()
			s, err := ParseSMI(f)
			if err != nil {
				t.Fatal(err)
			}
			g := s.GPUs[0]
			if s.DriverVersion != want.driver || s.CUDAVersion != want.cuda || len(s.GPUs) != 1 || g.Name != want.name ||
				g.PCIBusID != want.bus {
				t.Errorf("driver %s, CUDA %s, %d GPUs, %q at %s", s.DriverVersion, s.CUDAVersion, len(s.GPUs), g.Name, g.PCIBusID)
			}
			if g.TotalBytes == nil || *g.TotalBytes != want.mib<<20 || g.FreeBytes == nil || *g.FreeBytes > *g.TotalBytes {
				t.Errorf("memory %v, free %v", g.TotalBytes, g.FreeBytes)
			}
			if g.PCIeGeneration == nil || *g.PCIeGeneration != want.generation || g.PCIeWidth == nil ||
				*g.PCIeWidth != want.width {
				t.Errorf("link generation %v, width %v", g.PCIeGeneration, g.PCIeWidth)
			}
		})
	}
}

func TestParseSMINotAvailable(t *testing.T) {
	s, err := ParseSMI(strings.NewReader(`<nvidia_smi_log><gpu ` +
		`id="00000000:01:00.0"><fb_memory_usage><total>N/A</total></fb_memory_usage></gpu></nvidia_smi_log>`))
	if err != nil || s.GPUs[0].TotalBytes != nil || s.GPUs[0].PCIeWidth != nil {
		t.Errorf("what is not available is not absent: %+v, %v", s, err)
	}
	if _, err := ParseSMI(strings.NewReader("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA " +
		"driver.")); err == nil {
		t.Error("an error message was taken for a document")
	}
}

func FuzzParseSMI(f *testing.F) {
	f.Add(`<nvidia_smi_log><driver_version>580.95.05</driver_version><gpu ` +
		`id="00000000:01:00.0"><fb_memory_usage><total>8192 MiB</total></fb_memory_usage></gpu></nvidia_smi_log>`)
	f.Add(`<nvidia_smi_log><gpu id=":"><max_clocks><sm_clock> MHz</sm_clock></max_clocks></gpu></nvidia_smi_log>`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSMI(strings.NewReader(text))
		if err != nil && len(s.GPUs) > 0 {
			t.Errorf("an error and %d cards", len(s.GPUs))
		}
	})
}
