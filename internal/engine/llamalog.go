package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// ErrNoBuffers means that a log names no buffer: it is not llama.cpp's, or its level is above info.
var ErrNoBuffers = errors.New("no buffer sizes in the log")

// llamaBuffer matches what llama.cpp prints of a buffer: who, where, which, MiB. The tower's model size stands in a
// line of its own and names no device.
var (
	llamaBuffer    = regexp.MustCompile(`(\w+):\s+(\S+)\s+(model|KV|compute|output)\s+buffer size\s*=\s*([0-9.]+) MiB`)
	llamaTowerSize = regexp.MustCompile(`load_hparams: model size:\s+([0-9.]+) MiB`)
)

// ReadLlamaLog reads the buffers that a llama.cpp program printed while it loaded, as items to hold against an
// estimate. What is printed twice, because a context was reserved again, counts once, the last time. Sizes are rounded
// by the log to a hundredth of a MiB, which is their interval.
func ReadLlamaLog(r io.Reader) ([]Item, error) {
	var items []Item
	put := func(name, device, who, mib string) error {
		size, err := strconv.ParseFloat(mib, 64)
		if err != nil {
			return fmt.Errorf("reading %s %s: %w", who, name, err)
		}
		half := 0.005 * float64(units.MiB)
		b := size * float64(units.MiB)
		item := Item{
			Name: name, Where: logPlace(device), Bytes: units.Bytes(b), Low: units.Bytes(max(0, b-half)),
			High:   units.Bytes(b + half),
			Source: "log", Why: strings.TrimSpace(who + " " + device),
		}
		for i := range items {
			if items[i].Name == item.Name && items[i].Why == item.Why {
				items[i] = item
				return nil
			}
		}
		items = append(items, item)
		return nil
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // metadata lines hold chat templates
	for lines.Scan() {
		var err error
		if m := llamaBuffer.FindStringSubmatch(lines.Text()); m != nil {
			err = put(logName(m[1], m[3]), m[2], m[1], m[4])
		} else if m := llamaTowerSize.FindStringSubmatch(lines.Text()); m != nil {
			err = put(VisionWeights, "", "load_hparams", m[1])
		}
		if err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	if len(items) == 0 {
		return nil, ErrNoBuffers
	}
	return items, nil
}

// logName tells the tower's buffers from the decoder's by the function that printed the line.
func logName(who, which string) string {
	switch which {
	case "model":
		return Weights
	case "KV":
		return KVCache
	case "output":
		return Output
	}
	if strings.HasSuffix(who, "compute_meta") { // reserve_compute_meta, earlier alloc_compute_meta
		return Vision
	}
	return Compute
}

// logPlace is host for CPU, CPU_Mapped, CPU_REPACK and CUDA_Host, and for what names no device.
func logPlace(device string) string {
	if device == "" || strings.HasPrefix(device, "CPU") || strings.HasSuffix(device, "_Host") {
		return "host"
	}
	return "device"
}
