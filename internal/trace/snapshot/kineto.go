package snapshot

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// memoryEvent is the name of the instant events in which PyTorch's profiler (Kineto) reports memory. Bytes is above
// zero for an allocation and below for a free; it counts the allocator's blocks, after its rounding. Total Allocated
// and Total Reserved are the device's sums after the event. oomEvent reports a request that was refused.
const (
	memoryEvent = "[memory]"
	oomEvent    = "[OutOfMemory]"
)

type kinetoEvent struct {
	Name string  `json:"name"`
	Ts   float64 `json:"ts"` // microseconds
	Args struct {
		Bytes      *int64 `json:"Bytes"`
		Addr       *int64 `json:"Addr"`
		Allocated  *int64 `json:"Total Allocated"`
		Reserved   *int64 `json:"Total Reserved"`
		DeviceType int    `json:"Device Type"`
		DeviceID   int    `json:"Device Id"`
	} `json:"args"`
}

// kinetoKey is one memory: device type 0 (c10::DeviceType) is the host, 1 is CUDA.
type kinetoKey struct{ kind, id int }

// kinetoStep is one event with the device's sums after it, -1 where it states none.
type kinetoStep struct {
	Entry
	allocated, reserved int64
}

// ReadKineto reads the [memory] events of a Chrome trace, the object or the bare list form, one recording a device,
// hosts last. Other events are passed over as they stream by. What was allocated before the trace counts as live at its
// start: in blocks where they are freed in it, in Totals.Before where only the device's sum tells.
func ReadKineto(r io.Reader, name string) ([]Recording, error) {
	d := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	entries := map[kinetoKey][]kinetoStep{}
	var seen jsonShape
	if err := eachTraceEvent(d, &seen, func() error { return kinetoEntry(d, &seen, entries) }); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("the trace ends in the middle: the file was cut short")
		}
		return nil, fmt.Errorf("%s: byte %d: %w", name, d.InputOffset(), err)
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: %s", name, seen.what())
	}
	var list []Recording
	for _, key := range kinetoKeys(entries) {
		list = append(list, kinetoRecording(key, entries[key]))
	}
	return list, nil
}

// jsonShape is what was seen of a file, to name it where it holds no memory events.
type jsonShape struct {
	keys     []string // of the outermost object
	profiled bool     // profile_memory is set
	listed   bool     // the first element of the list is a list or a number
	events   int
	tpu      bool
}

// what names a file without memory events.
func (s *jsonShape) what() string {
	has := func(key string) bool { return slices.Contains(s.keys, key) }
	switch {
	case has("segments") || has("device_traces"):
		return "a snapshot as JSON: vlmem reads the pickle that torch.cuda.memory._dump_snapshot writes"
	case s.listed:
		return "a list of numbers, as export_memory_timeline writes: it holds sums and no blocks; " +
			"export_chrome_trace of the same profile, made with profile_memory=True, holds them"
	case s.tpu:
		return "a trace of a TPU's profiler, which has no [memory] events: jax.profiler.save_device_memory_profile() " +
			"writes a memory profile that vlmem explain reads"
	case len(s.keys) > 0 && !has("traceEvents"):
		return fmt.Sprintf("JSON with %q, and not a Chrome trace: want an object with traceEvents, or a list of events",
			s.keys[:min(len(s.keys), 4)])
	case s.profiled:
		return "a Chrome trace recorded with profile_memory=True that holds no [memory] event: nothing was allocated in it"
	}
	return "a Chrome trace without [memory] events: record it with profile_memory=True"
}

// maxKeys is how many keys of the outermost object are kept.
const maxKeys = 16

// eachTraceEvent stands d before every element of traceEvents in turn.
func eachTraceEvent(d *json.Decoder, seen *jsonShape, f func() error) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t == json.Delim('[') {
		return eachElement(d, f)
	}
	if t != json.Delim('{') {
		return errors.New("want a Chrome trace: an object with traceEvents, or a list of events")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if name, ok := key.(string); ok && len(seen.keys) < maxKeys {
			seen.keys = append(seen.keys, name)
		}
		if key != "traceEvents" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return err
			}
			seen.profiled = seen.profiled || key == "profile_memory" && string(skipped) != "0"
			continue
		}
		if t, err := d.Token(); err != nil {
			return err
		} else if t != json.Delim('[') {
			return errors.New("traceEvents is not a list")
		}
		if err := eachElement(d, f); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

func eachElement(d *json.Decoder, f func() error) error {
	for d.More() {
		if err := f(); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func kinetoEntry(d *json.Decoder, seen *jsonShape, into map[kinetoKey][]kinetoStep) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	if seen.events++; seen.events == 1 && len(raw) > 0 && raw[0] != '{' {
		seen.listed = true
	}
	seen.tpu = seen.tpu || seen.events < 1000 && bytes.Contains(raw, []byte("/device:TPU"))
	var named struct {
		Name json.RawMessage `json:"name"`
	}
	if json.Unmarshal(raw, &named) != nil {
		return nil
	}
	oom := string(named.Name) == `"`+oomEvent+`"`
	if !oom && string(named.Name) != `"`+memoryEvent+`"` {
		return nil
	}
	var e kinetoEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("reading a %s event: %w", memoryEvent, err)
	}
	step, err := e.step(oom)
	if err != nil || step.Size == 0 {
		return err
	}
	key := kinetoKey{e.Args.DeviceType, e.Args.DeviceID}
	into[key] = append(into[key], step)
	return nil
}

// step types an event. Its time is in nanoseconds until the events are sorted.
func (e *kinetoEvent) step(oom bool) (kinetoStep, error) {
	if e.Args.Bytes == nil || e.Args.Addr == nil && !oom || *e.Args.Bytes == math.MinInt64 {
		return kinetoStep{}, errors.New("a [memory] event without Bytes and Addr")
	}
	s := kinetoStep{Entry{Action: Alloc, Size: *e.Args.Bytes, TimeUs: int64(1000 * e.Ts), Stack: NoStack}, -1, -1}
	switch {
	case oom:
		s.Action, s.Addr, s.Size = OutOfMemory, UnknownFree, max(s.Size, -s.Size)
	case s.Size < 0:
		s.Action, s.Addr, s.Size = FreeCompleted, *e.Args.Addr, -s.Size
	default:
		s.Addr = *e.Args.Addr
	}
	if a := e.Args.Allocated; a != nil && *a >= 0 {
		s.allocated = *a
	}
	if r := e.Args.Reserved; r != nil && *r >= 0 {
		s.reserved = *r
	}
	return s, nil
}

func kinetoKeys(entries map[kinetoKey][]kinetoStep) []kinetoKey {
	var keys []kinetoKey
	for key := range entries {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b kinetoKey) int {
		return cmp.Or(-cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
	})
	return keys
}

// kinetoRecording orders the steps by time and finds what was live before them.
func kinetoRecording(key kinetoKey, steps []kinetoStep) Recording {
	slices.SortStableFunc(steps, func(a, b kinetoStep) int { return cmp.Compare(a.TimeUs, b.TimeUs) })
	r := Recording{Device: key.id, Totals: kinetoTotals(steps)}
	if key.kind == 0 {
		r.Device = HostDevice
	}
	seen, named := map[int64]bool{}, int64(0)
	for i := range steps {
		e := steps[i].Entry
		e.TimeUs /= 1000
		if e.Action == FreeCompleted && !seen[e.Addr] {
			r.Live = append(r.Live, Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stack: NoStack})
			named += e.Size
		}
		if e.Action != OutOfMemory {
			seen[e.Addr] = true
		}
		r.Entries = append(r.Entries, e)
	}
	if r.Totals != nil {
		r.Totals.Before = max(0, r.Totals.Before-named)
	}
	return r
}

// kinetoTotals is what the events' sums say, with all that was allocated before the first in Before; nil where no event
// states a sum.
func kinetoTotals(steps []kinetoStep) *Totals {
	var t *Totals
	moved := int64(0) // since the trace began
	for i := range steps {
		s := &steps[i]
		switch s.Action {
		case Alloc:
			moved += s.Size
		case FreeCompleted:
			moved -= s.Size
		}
		if s.allocated < 0 {
			continue
		}
		if t == nil {
			t = &Totals{Before: max(0, s.allocated-moved), PeakAlloc: max(0, s.allocated-moved)}
		}
		t.Allocated, t.PeakAlloc = s.allocated, max(t.PeakAlloc, s.allocated)
		if s.reserved >= 0 {
			t.Reserved, t.PeakReserved = s.reserved, max(t.PeakReserved, s.reserved)
		}
	}
	return t
}

// WritePerfetto writes recordings as a Chrome trace, which ui.perfetto.dev and chrome://tracing open: the [memory]
// events that Kineto writes, with a counter of the live bytes of each device.
func WritePerfetto(w io.Writer, recordings []Recording) error {
	b := bufio.NewWriter(w)
	fmt.Fprint(b, `{"schemaVersion":1,"displayTimeUnit":"ns","traceEvents":[`)
	separator := "\n"
	event := func(format string, args ...any) {
		fmt.Fprintf(b, separator+format, args...)
		separator = ",\n"
	}
	for i := range recordings {
		r := &recordings[i]
		event(`{"ph":"M","name":"process_name","pid":%d,"args":{"name":"%s"}}`, r.Device, r.Name())
		perfettoDevice(event, r)
	}
	fmt.Fprint(b, "\n]}\n")
	return b.Flush()
}

func perfettoDevice(event func(string, ...any), r *Recording) {
	live := int64(0)
	start := int64(0)
	if len(r.Entries) > 0 {
		start = r.Entries[0].TimeUs
	}
	kind, release := 1, r.Release()
	if r.Host() {
		kind = 0
	}
	step := func(ts, addr, bytes, stream int64, site string) {
		live += bytes
		named, _ := json.Marshal(site) // a string always encodes
		event(`{"ph":"i","s":"t","cat":"cpu_instant_event","name":"[memory]","pid":%d,"tid":%d,"ts":%d,"args":{"Device `+
			`Type":%d,"Device Id":%d,"Addr":%d,"Bytes":%d,"Total Allocated":%d,"Site":%s}}`,
			r.Device, stream, ts, kind, r.Device, addr, bytes, live, named)
		event(`{"ph":"C","name":"live bytes","pid":%d,"ts":%d,"args":{"requested":%d}}`, r.Device, ts, live)
	}
	for _, l := range r.Live {
		step(start, l.Address, l.Requested, l.Stream, r.Site(l.Stack))
	}
	for i := range r.Entries {
		switch e := &r.Entries[i]; e.Action {
		case Alloc:
			step(e.TimeUs, e.Addr, e.Size, e.Stream, r.Site(e.Stack))
		case release:
			step(e.TimeUs, e.Addr, -e.Size, e.Stream, "")
		}
	}
}
