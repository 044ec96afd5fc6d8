package speed

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// architectures names the kinds of card by compute capability (CUDA C++ Programming Guide, compute capabilities).
var architectures = []struct{ prefix, arch string }{
	{"6.0", "pascal60"}, {"6.", "pascal61"}, {"7.0", "volta"}, {"7.2", "volta"}, {"7.5", "turing"}, {"8.0", "ampere-dc"},
	{"8.9", "ada"}, {"8.", "ampere"}, {"9.", "hopper"}, {"10.", "blackwell"}, {"11.", "blackwell"}, {"12.", "blackwell"},
}

var (
	laptopCard = regexp.MustCompile(`(?i)laptop|mobile|max-?q|\bMX ?\d`)
	noTensor   = regexp.MustCompile(`(?i)GTX 16|MX450|MX550|\bT[1-6]\d\d|\bT1[02]00`)
	laptopCPU  = regexp.MustCompile(`(?i)\d(U|H|HQ|HK|HS|HX|M|P|G\d|V)\b|\bN\d{2,3}\b|Ryzen AI`)
	serverCPU  = regexp.MustCompile(`(?i)xeon|epyc|threadripper|neoverse|graviton|ampere`)
)

// CardOf reads a card's rates from its profile; nil where its bandwidth is not known.
func CardOf(g *profile.GPU) *Card {
	if g.BandwidthBytesPerS <= 0 {
		return nil
	}
	c := &Card{Arch: "other", BandwidthBytesPS: float64(g.BandwidthBytesPerS), FlopsPS: g.FP32FlopsPerS, Count: 1,
		MemoryBytes: float64(g.MemoryBytes), Laptop: laptopCard.MatchString(g.Name),
		HostCopyBytesPerS: float64(g.H2DPinnedBytesPerS)}
	if g.Architecture != "" {
		c.Arch = g.Architecture
	}
	for _, a := range architectures {
		if strings.HasPrefix(g.ComputeCapability, a.prefix) {
			c.Arch = a.arch
			break
		}
	}
	if c.Arch == "turing" && noTensor.MatchString(g.Name) {
		c.Arch = "turing16"
	}
	if c.HostCopyBytesPerS == 0 {
		c.HostCopyBytesPerS = float64(g.HostBandwidthBytesPerS)
	}
	return c
}

// BackendOf is what engines compute through on a card: CUDA where its profile names nothing else.
func BackendOf(g *profile.GPU) string { return cmp.Or(g.Backend, "cuda") }

// Shares by which one figure of a processor stands for another where it alone is known.
const (
	readShare       = 0.8  // of the platform's maximum that a plain read by all threads reaches
	laptopAllCores  = 0.65 // of the highest clock that a laptop holds on all cores
	desktopAllCores = 0.92
)

// ReadRate is bytes a second that all threads read: as measured, else a share of the platform's maximum.
func (h *Host) ReadRate() float64 {
	if h.ReadBytesPerS > 0 {
		return h.ReadBytesPerS
	}
	return readShare * h.BandwidthBytesPS
}

// HostOf reads what of the processors decides speed; nil where the hardware names none. Guesses say what was assumed.
func HostOf(h profile.Hardware) (host *Host, guesses []string) {
	if h.CPU == nil {
		return nil, nil
	}
	host = &Host{Class: "desktop", ISA: isaOf(h.CPU.ISA), Cores: cores(&h)}
	clock := desktopAllCores
	switch model := h.CPU.Model; {
	case serverCPU.MatchString(model):
		host.Class = "server"
	case laptopCPU.MatchString(model):
		host.Class, clock = "laptop", laptopAllCores
	case host.ISA == "neon":
		host.Class = "arm"
	}
	host.GHz = 3.2
	if h.CPU.MHz > 0 {
		host.GHz = h.CPU.MHz / 1000 * clock
	} else {
		guesses = append(guesses, "a clock of 3.2 GHz")
	}
	switch {
	case h.Measured != nil && h.Measured.DRAMReadBytesPerS > 0:
		host.ReadBytesPerS = float64(h.Measured.DRAMReadBytesPerS)
		host.BandwidthBytesPS = host.ReadBytesPerS / readShare
	case h.Memory != nil && h.Memory.BandwidthBytesPerS > 0:
		host.BandwidthBytesPS = float64(h.Memory.BandwidthBytesPerS)
	default:
		host.BandwidthBytesPS = map[string]float64{"laptop": 5.1e10, "desktop": 5.1e10, "server": 1e11,
			"arm": 1.7e10}[host.Class]
		guesses = append(guesses, "memory as the platform commonly has it")
	}
	return host, guesses
}

// cores counts an efficiency core as one half, and no more than affinity and CPU quota leave the process.
func cores(h *profile.Hardware) float64 {
	c := h.CPU
	n := float64(c.Cores)
	if len(c.Kinds) > 1 {
		n = 0
		for _, k := range c.Kinds {
			if k.Name == "efficiency" {
				n += float64(k.Cores) / 2
			} else {
				n += float64(k.Cores)
			}
		}
	}
	if c.AllowedCores > 0 {
		n = min(n, float64(c.AllowedCores))
	}
	if usable := h.UsableThreads(); usable > 0 {
		n = min(n, float64(usable))
	}
	return max(n, 1)
}

func isaOf(isa []string) string {
	for _, known := range []struct{ flag, isa string }{{"avx512f", "avx512"}, {"avx2", "avx2"}, {"avx", "avx"}, {"neon",
		"neon"},
		{"asimd", "neon"}} {
		if slices.Contains(isa, known.flag) {
			return known.isa
		}
	}
	if slices.ContainsFunc(isa, func(f string) bool { return strings.HasPrefix(f, "sse") }) {
		return "sse"
	}
	return "avx2"
}
