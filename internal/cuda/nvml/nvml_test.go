package nvml

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// line writes cards and parts with their memory.
func line(s cuda.SMI) string {
	var all []string
	size := func(p *int64) string {
		if p == nil {
			return "-"
		}
		return fmt.Sprint(*p >> 30)
	}
	for _, g := range s.GPUs {
		all = append(all, fmt.Sprintf("%s %s/%s%s", g.PCIBusID, size(g.FreeBytes), size(g.TotalBytes), g.Unread))
		for _, p := range g.Instances {
			all = append(all, fmt.Sprintf("part %s %s %s/%s%s", p.Index, p.UUID, size(p.FreeBytes), size(p.TotalBytes),
				p.Unread))
		}
	}
	return strings.Join(all, "; ")
}

func TestRead(t *testing.T) {
	const divided = "; 0000:c1:00.0 -/-Insufficient Permissions; part 1 MIG-1 5/20; part 2 GPU-0 5/20"
	for _, c := range []struct{ name, setting, want string }{
		{"as it should be", "VLMEM_NVML_MEMORY=0", "0000:01:00.0 5/24" + divided},
		{"memory that is the host's", "VLMEM_NVML_MEMORY=3", "0000:01:00.0 -/-" + divided},
		{"a card that fell off the bus", "VLMEM_NVML_MEMORY=15", "0000:01:00.0 -/-GPU is lost" + divided},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := Open(standin.Management(t, c.setting))
			if err != nil {
				t.Fatal(err)
			}
			s, err := r.Read(t.Context())
			if got := line(s); err != nil || got != c.want || s.DriverVersion != "580.95.05" {
				t.Errorf("%s, %v; want %s", got, err, c.want)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What processes hold is told by their numbers, summed over cards; a file that is not there holds none.
func TestProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "processes")
	r, err := Open(standin.Management(t, "VLMEM_NVML_PROCESSES="+path))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for text, want := range map[string]map[int]int64{"": {},
		"7 1048576\n8 2\n7 4\n9 18446744073709551615\n": {7: 1048580, 8: 2},
		strings.Repeat("5 1\n", 300):                    {5: mostProcesses}} {
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := r.Processes(t.Context()); err != nil || !maps.Equal(got, want) {
			t.Errorf("%.20q: %v, %v", text, got, err)
		}
		os.Remove(path)
	}
}

func TestOpenFails(t *testing.T) {
	path := standin.Management(t, "VLMEM_NVML_INIT=9")
	for _, p := range []string{path, filepath.Join(t.TempDir(), "absent.so")} {
		if _, err := Open(p); !errors.Is(err, cuda.ErrUnavailable) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if _, err := Open(path); !strings.Contains(err.Error(), "Driver Not Loaded") {
		t.Error(err)
	}
}

// A library that never answers is given up on, and not asked again meanwhile.
func TestHang(t *testing.T) {
	r, err := Open(standin.Management(t, "VLMEM_NVML_HANG=1"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if _, err := r.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a hanging library answered: %v", err)
		}
		cancel()
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
