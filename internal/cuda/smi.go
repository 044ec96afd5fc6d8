package cuda

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// SMI is what nvidia-smi says of a machine. It needs no context on any card, so it is the cheap way to free memory.
type SMI struct {
	DriverVersion string // "580.95.05"
	CUDAVersion   string // "13.0"
	GPUs          []SMIDevice
}

// SMIDevice is one card. Pointers are nil where nvidia-smi says N/A, or could not read, which Unread then tells.
type SMIDevice struct {
	Name                         string
	UUID                         string
	PCIBusID                     string // "0000:01:00.0", as Device.PCIBusID
	TotalBytes, FreeBytes        *int64
	Unread                       string        // what nvidia-smi says in place of memory that it failed to read
	Instances                    []SMIInstance // of a card that is divided (MIG)
	PCIeGeneration, PCIeWidth    *int          // what the link can do
	PCIeGenerationNow, WidthNow  *int
	MaxMemoryClockHz, MaxClockHz *float64
	Architecture                 string // "Pascal", "" before driver 470
}

// SMIInstance is one part of a divided card, with memory of its own.
type SMIInstance struct {
	Index                 string
	UUID                  string // by which CUDA_VISIBLE_DEVICES names it, "" where nobody says
	TotalBytes, FreeBytes *int64
	Unread                string
}

// smiLog is the part of nvidia-smi's document that vlmem reads; elements keep their names over versions 10 to 13.
type smiLog struct {
	XMLName xml.Name `xml:"nvidia_smi_log"`
	Driver  string   `xml:"driver_version"`
	CUDA    string   `xml:"cuda_version"`
	GPUs    []struct {
		ID           string    `xml:"id,attr"`
		Name         string    `xml:"product_name"`
		Architecture string    `xml:"product_architecture"`
		UUID         string    `xml:"uuid"`
		Memory       smiMemory `xml:"fb_memory_usage"`
		Instances    []struct {
			Index  string    `xml:"index"`
			Memory smiMemory `xml:"fb_memory_usage"`
		} `xml:"mig_devices>mig_device"`
		Link struct {
			Generation    string `xml:"pcie_gen>max_link_gen"`
			GenerationNow string `xml:"pcie_gen>current_link_gen"`
			Width         string `xml:"link_widths>max_link_width"`
			WidthNow      string `xml:"link_widths>current_link_width"`
		} `xml:"pci>pci_gpu_link_info"`
		Clocks struct {
			SM     string `xml:"sm_clock"`
			Memory string `xml:"mem_clock"`
		} `xml:"max_clocks"`
	} `xml:"gpu"`
}

type smiMemory struct {
	Total string `xml:"total"`
	Free  string `xml:"free"`
}

// unread is what stands in place of a size that failed to be read, "" where it was read or does not apply. Unified
// memory has no size of its own: N/A and Not Supported are answers.
func (m smiMemory) unread() string {
	for _, text := range []string{m.Total, m.Free} {
		plain := strings.Trim(strings.TrimSpace(text), "[]")
		if quantity[int64](text) == nil && plain != "" && plain != "N/A" && plain != "Not Supported" {
			return plain
		}
	}
	return ""
}

// ParseSMI reads the output of nvidia-smi -q -x.
func ParseSMI(r io.Reader) (SMI, error) {
	var doc smiLog
	if err := xml.NewDecoder(r).Decode(&doc); err != nil {
		return SMI{}, fmt.Errorf("reading nvidia-smi's XML: %w", err)
	}
	s := SMI{DriverVersion: doc.Driver, CUDAVersion: doc.CUDA}
	for _, g := range doc.GPUs {
		d := SMIDevice{Unread: g.Memory.unread(),
			Name: g.Name, UUID: g.UUID, PCIBusID: ShortBusID(g.ID), Architecture: known(g.Architecture),
			TotalBytes: quantity[int64](g.Memory.Total), FreeBytes: quantity[int64](g.Memory.Free),
			PCIeGeneration: quantity[int](g.Link.Generation), PCIeWidth: quantity[int](g.Link.Width),
			PCIeGenerationNow: quantity[int](g.Link.GenerationNow), WidthNow: quantity[int](g.Link.WidthNow),
			MaxClockHz: quantity[float64](g.Clocks.SM), MaxMemoryClockHz: quantity[float64](g.Clocks.Memory),
		}
		for _, i := range g.Instances {
			d.Instances = append(d.Instances, SMIInstance{Index: i.Index, TotalBytes: quantity[int64](i.Memory.Total),
				FreeBytes: quantity[int64](i.Memory.Free), Unread: i.Memory.unread()})
		}
		s.GPUs = append(s.GPUs, d)
	}
	return s, nil
}

// RunSMI asks the nvidia-smi found in PATH, and stops it with all that it started when ctx ends. Its error matches
// ErrUnavailable where there is none.
func RunSMI(ctx context.Context) (SMI, error) {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return SMI{}, &Unavailable{Reason: "nvidia-smi is not installed"}
	}
	cmd := exec.CommandContext(ctx, path, "-q", "-x")
	killGroup(cmd)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return SMI{}, fmt.Errorf("running nvidia-smi: no answer in time: %w", context.Cause(ctx))
	}
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(out) == 0 {
			out = exit.Stderr
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return SMI{}, fmt.Errorf("running nvidia-smi: %w: %s", err, line)
	}
	return ParseSMI(bytes.NewReader(out))
}

func known(s string) string {
	if s == "N/A" {
		return ""
	}
	return s
}

// quantity reads "5120 MiB", "16x", "3504 MHz" or "3"; nil for N/A and whatever else is no number.
func quantity[T int | int64 | float64](s string) *T {
	number := strings.TrimRight(s, " xMiBHz")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return nil
	}
	switch s[len(number):] {
	case " MiB":
		v *= 1 << 20
	case " MHz":
		v *= 1e6
	}
	t := T(v)
	return &t
}

// ShortBusID turns nvidia-smi's and NVML's 00000000:01:00.0 into the kernel's 0000:01:00.0.
func ShortBusID(id string) string {
	id = strings.ToLower(id)
	if domain, rest, ok := strings.Cut(id, ":"); ok && len(domain) == 8 {
		return domain[4:] + ":" + rest
	}
	return id
}
