package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/nvml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// A card may be divided (NVIDIA's MIG) into parts, each with memory and multiprocessors that no other part has. They
// are cards of their own: a CUDA program sees a single one. Which there are the driver's management library tells, or
// nvidia-smi, which is started only where the kernel shows that a card is divided, since it takes its time.

// partsLimit is far above what either takes.
const partsLimit = 5 * time.Second

// askParts is what management tells of the live machine's cards; nothing where nobody answers.
func askParts(management, root string) cuda.SMI {
	ctx, cancel := context.WithTimeout(context.Background(), partsLimit)
	defer cancel()
	reader, err := nvml.Open(management)
	if err == nil {
		smi, _ := reader.Read(ctx) // of cards that do not answer the driver's own error is told
		_ = reader.Close()
		return smi
	}
	divided, _ := filepath.Glob(filepath.Join(root, "proc/driver/nvidia/capabilities/gpu*/mig/gi*"))
	if !errors.Is(err, cuda.ErrUnavailable) || len(divided) == 0 {
		return cuda.SMI{}
	}
	smi, _ := cuda.RunSMI(ctx)
	return smi
}

// addParts puts the parts of divided cards behind their card, which is then no card that a program can have. devices
// are what the CUDA driver shows.
func addParts(h *profile.Hardware, smi cuda.SMI, devices []cuda.Device) {
	var cards []profile.Card
	for _, c := range h.Cards {
		i := slices.IndexFunc(smi.GPUs, func(g cuda.SMIDevice) bool { return g.PCIBusID == c.PCIBusID })
		if i < 0 || len(smi.GPUs[i].Instances) == 0 {
			cards = append(cards, c)
			continue
		}
		whole := smi.GPUs[i]
		c.Name, c.VRAMBytes, c.VRAMUsedBytes = "NVIDIA "+strings.TrimPrefix(whole.Name, "NVIDIA "), nil, nil
		c.VRAMBytes, c.VRAMUsedBytes = sizes(whole.TotalBytes, whole.FreeBytes)
		c.Visible, c.Backends = false, nil
		c.Why = fmt.Sprintf("divided (MIG): programs get one of its %d parts", len(whole.Instances))
		cards = append(cards, c)
		for _, p := range whole.Instances {
			cards = append(cards, part(c, p, devices))
		}
	}
	h.Cards = cards
}

// part is one part of the card whole.
func part(whole profile.Card, p cuda.SMIInstance, devices []cuda.Device) profile.Card {
	c := whole
	c.Name, c.Part, c.UUID, c.Backends = whole.Name+" part", p.Index, p.UUID, []string{"cuda"}
	c.VRAMBytes, c.VRAMUsedBytes = sizes(p.TotalBytes, p.FreeBytes)
	c.Source = profile.Sources{"default": "reported: NVIDIA's management library"}
	_, own, _ := strings.Cut(p.UUID, "-") // "MIG-…", which the CUDA driver writes "GPU-…"
	c.Visible = own != "" && slices.ContainsFunc(devices, func(d cuda.Device) bool {
		_, theirs, _ := strings.Cut(d.UUID, "-")
		return theirs == own
	})
	switch {
	case c.Visible:
		c.Why = ""
	case p.Unread != "":
		c.Why, c.Backends = "its memory cannot be read: "+p.Unread, nil
	case p.UUID != "":
		c.Why = "not the part that this process sees: CUDA_VISIBLE_DEVICES=" + p.UUID + " names it"
	default:
		c.Why = "a process sees one part alone: CUDA_VISIBLE_DEVICES names it by what nvidia-smi -L shows"
	}
	return c
}

// sizes are total and used memory, nil where they are not told.
func sizes(total, free *int64) (all, used *units.Bytes) {
	if total == nil {
		return nil, nil
	}
	n := units.Bytes(*total)
	if free != nil {
		u := units.Bytes(*total - *free)
		used = &u
	}
	return &n, used
}
