package snapshot

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/google/pprof/profile"
)

// maxProfile bounds a memory profile, in bytes unpacked: JAX's hold one sample for each stack.
const maxProfile = 256 << 20

// maxBlocks bounds the blocks of a sample; those beyond are part of the last ones.
const maxBlocks = 1 << 16

// IsPprof reports whether a file begins as an unpacked pprof profile does, with its sample types.
func IsPprof(head []byte) bool {
	return len(head) > 4 && head[0] == 0x0a && head[2] == 0x08 && int(head[1]) < len(head)
}

// ReadPprof reads the memory profile that jax.profiler.save_device_memory_profile() and XLA write: what lives, by stack
// and device, without addresses and without history. A sample is as many blocks as it counts, of one size: their bytes
// are the sample's, how they share them it does not say.
func ReadPprof(r io.Reader, name string) ([]Recording, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxProfile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxProfile {
		return nil, fmt.Errorf("%s: a profile of more than %d MiB", name, maxProfile>>20)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("%s: reading it as a memory profile: %w", name, err)
	}
	bytes := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Unit == "bytes" })
	if bytes < 0 {
		return nil, fmt.Errorf("%s: a profile without a sample type in bytes: not one of memory", name)
	}
	count := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Unit == "count" })
	s := &Snapshot{}
	c := profiled{out: s, frames: map[Frame]int32{}, at: 1 << 40}
	devices := map[string][]*profile.Sample{}
	for _, sample := range p.Sample {
		if sample.Value[bytes] > 0 {
			device := strings.Join(sample.Label["device"], " ")
			devices[device] = append(devices[device], sample)
		}
	}
	var list []Recording
	for k, device := range slices.Sorted(maps.Keys(devices)) {
		rec := Recording{Device: numberOf(device, k), Source: s, Totals: &Totals{}}
		for _, sample := range devices[device] {
			blocks := int64(1)
			if count >= 0 {
				blocks = min(max(1, sample.Value[count]), maxBlocks, sample.Value[bytes])
			}
			c.add(rec.Device, sample, sample.Value[bytes], blocks)
			rec.Totals.Allocated += sample.Value[bytes]
		}
		rec.Segments = rec.Final()
		list = append(list, rec)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: a memory profile in which nothing lives", name)
	}
	return list, nil
}

// numberOf is the number of a device such as gpu:1, or of the host; k where its name has none.
func numberOf(device string, k int) int {
	if strings.Contains(strings.ToLower(device), "cpu") {
		return HostDevice
	}
	_, digits, _ := strings.Cut(device, ":")
	if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
		return int(n)
	}
	return k
}

// profiled collects samples as blocks of segments of their own.
type profiled struct {
	out    *Snapshot
	frames map[Frame]int32
	at     int64 // addresses that were never any
}

func (c *profiled) add(device int, sample *profile.Sample, size, blocks int64) {
	var stack []int32
	for _, location := range sample.Location {
		for _, line := range location.Line {
			if line.Function == nil {
				continue
			}
			f := Frame{Name: line.Function.Name, Filename: line.Function.Filename, Line: line.Line}
			i, ok := c.frames[f]
			if !ok {
				i = int32(len(c.out.Frames))
				c.frames[f] = i
				c.out.Frames = append(c.out.Frames, f)
			}
			stack = append(stack, i)
		}
	}
	if kinds := sample.Label["kind"]; len(stack) == 0 && len(kinds) > 0 { // executables have no stack
		c.out.Frames = append(c.out.Frames, Frame{Name: kinds[0]})
		stack = []int32{int32(len(c.out.Frames) - 1)}
	}
	index := NoStack
	if len(stack) > 0 {
		index = int32(len(c.out.Stacks))
		c.out.Stacks = append(c.out.Stacks, stack)
	}
	s := Segment{Device: int32(device), Address: c.at, TotalSize: size, Stack: NoStack}
	for ; blocks > 0; blocks-- {
		share := size / blocks
		s.Blocks = append(s.Blocks, Block{Address: c.at, Size: share, Requested: share, Stack: index, State: Allocated})
		c.at, size = c.at+share, size-share
	}
	c.out.Segments = append(c.out.Segments, s)
}
