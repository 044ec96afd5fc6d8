package account

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Explanation is what recordings say of the memory of their devices.
type Explanation struct {
	File       string   `json:"file" yaml:"file"`
	Format     string   `json:"format" yaml:"format"`
	HasHistory bool     `json:"has_history" yaml:"has_history"` // of some device
	AllocConf  string   `json:"alloc_conf" yaml:"alloc_conf"`   // as recorded; "" for the default, or where not recorded
	Devices    []Device `json:"devices" yaml:"devices"`

	By       By       `json:"by" yaml:"by"`
	At       string   `json:"at" yaml:"at"` // the moment of what follows: peak, end or an event
	Sites    []Holder `json:"sites,omitempty" yaml:"sites,omitempty"`
	Stacks   []Holder `json:"stacks,omitempty" yaml:"stacks,omitempty"`
	Phases   []Holder `json:"phases,omitempty" yaml:"phases,omitempty"`
	Modules  []Holder `json:"modules,omitempty" yaml:"modules,omitempty"`
	Pools    []Holder `json:"pools,omitempty" yaml:"pools,omitempty"`
	Streams  []Holder `json:"streams,omitempty" yaml:"streams,omitempty"`
	Growth   []Growth `json:"growth,omitempty" yaml:"growth,omitempty"` // of devices whose memory grows from step to step
	Warnings []string `json:"warnings,omitempty" yaml:"warnings,omitempty"`
}

// Holders is the list that By names.
func (e *Explanation) Holders() *[]Holder {
	switch e.By {
	case ByStack:
		return &e.Stacks
	case ByPhase:
		return &e.Phases
	case ByModule:
		return &e.Modules
	case ByPool:
		return &e.Pools
	case ByStream:
		return &e.Streams
	}
	return &e.Sites
}

// Join adds another rank's explanation. Its devices are told from those that are there by its file.
func (e *Explanation) Join(other Explanation) {
	offset := 0
	for i := range e.Devices {
		offset = max(offset, e.Devices[i].Device+1)
	}
	rename := func(device int) int {
		if device == snapshot.HostDevice {
			return device
		}
		return device + offset
	}
	for _, d := range other.Devices {
		d.Device, d.Name = rename(d.Device), other.File+" "+d.Name
		e.Devices = append(e.Devices, d)
	}
	for i, list := range e.lists() {
		for _, h := range *other.lists()[i] {
			h.Device = rename(h.Device)
			*list = append(*list, h)
		}
		sortHolders(*list)
	}
	for _, g := range other.Growth {
		g.Device = rename(g.Device)
		e.Growth = append(e.Growth, g)
	}
	e.HasHistory = e.HasHistory || other.HasHistory
	e.Warnings = append(e.Warnings, other.Warnings...)
}

// lists are the list that By names, and that of stacks, which a page has as well.
func (e *Explanation) lists() []*[]Holder {
	if e.By == ByStack {
		return []*[]Holder{&e.Stacks}
	}
	return []*[]Holder{e.Holders(), &e.Stacks}
}

// Device is one memory: its account at the end of the recording, its peaks, and the requests that it refused.
type Device struct {
	Device     int    `json:"device" yaml:"device"` // −1 for the host
	Name       string `json:"name" yaml:"name"`
	HasHistory bool   `json:"has_history" yaml:"has_history"`
	// SumsAlone is set where the file holds no segments: what is free is then not told apart, and rounding is in live.
	SumsAlone bool `json:"sums_alone,omitempty" yaml:"sums_alone,omitempty"`
	Account   `yaml:",inline"`
	Peak      *Peak  `json:"at_peak,omitempty" yaml:"at_peak,omitempty"` // nil without a history
	PeakLive  *int64 `json:"peak_live_bytes,omitempty" yaml:"peak_live_bytes,omitempty"`
	PeakHeld  *int64 `json:"peak_reserved_bytes,omitempty" yaml:"peak_reserved_bytes,omitempty"`
	Capacity  *int64 `json:"capacity_bytes,omitempty" yaml:"capacity_bytes,omitempty"` // nil where no request was refused
	Parts     []Part `json:"parts,omitempty" yaml:"parts,omitempty"`
	OOMs      []OOM  `json:"ooms" yaml:"ooms"`

	Curve []snapshot.Sum `json:"-" yaml:"-"` // over time; empty unless asked for
}

// Peak is the account when most was live.
type Peak struct {
	Event   int `json:"event" yaml:"event"` // after this many entries
	Account `yaml:",inline"`
}

// Options are what to say of a recording.
type Options struct {
	By      By
	Frames  int    // of a stack, at most; 0 for all
	At      string // peak, end, oom, or a number of entries; "" is the peak, or the end without a history
	Release pytorch.Release
	Memory  int64 // the card's, in bytes, for settings of refused requests; 0 takes the recording's own
	Judge   bool  // replay settings for refused requests
	Growth  bool  // look for memory that grows from step to step
	Page    bool  // for a page: follow live and reserved memory over time, and tell it apart by stack as well
}

// device is one recording with what was found on the way.
type device struct {
	rec   *snapshot.Recording
	cfg   pytorch.Config
	marks marks
	peaks snapshot.Peaks

	unread error // what is wrong with the settings that the recording states; nil where nothing is
}

func newDevice(r *snapshot.Recording) *device {
	d := &device{rec: r, peaks: r.Peaks()}
	d.cfg, d.unread = pytorch.ConfigOf(r)
	if r.Source != nil {
		d.marks = marksOf(r.Source.Annotations, r.Device)
	}
	return d
}

// Explain says what recordings hold. Recordings are of one file or of several ranks.
func Explain(recordings []snapshot.Recording, o Options) (Explanation, error) {
	e := Explanation{By: o.By, At: o.At}
	for i := range recordings {
		r := &recordings[i]
		d := newDevice(r)
		if d.unread != nil {
			e.Warnings = append(e.Warnings, d.unread.Error())
		}
		if r.Settings != nil {
			e.AllocConf = r.Settings.Conf
		}
		if err := d.explain(&e, o); err != nil {
			return e, err
		}
		e.Warnings = append(e.Warnings, r.Warnings...)
	}
	for _, list := range e.lists() {
		sortHolders(*list)
	}
	return e, nil
}

// explain adds the device to e.
func (d *device) explain(e *Explanation, o Options) error {
	r := d.rec
	out := Device{Device: r.Device, Name: r.Name(), HasHistory: r.HasHistory(), OOMs: []OOM{}}
	e.HasHistory = e.HasHistory || out.HasHistory
	at, name, err := d.moment(o.At)
	if err != nil {
		return err
	}
	e.At = name
	refusals := r.Refusals()
	refusals = refusals[:min(len(refusals), maxOOMs)]
	l := d.looking()
	parts := partition{page: d.cfg.LargePage(), index: map[partKey]int{}}
	l.at(atEnd, l.counted(&out.Account), func(s *snapshot.Segment, _ []int32) { parts.add(s) })
	if out.HasHistory {
		out.Peak = &Peak{Event: d.peaks.LiveAt}
		l.at(d.peaks.LiveAt, l.counted(&out.Peak.Account))
		out.PeakLive, out.PeakHeld = &d.peaks.Live, &d.peaks.Reserved
	}
	held, stacks := d.tally(e.By, o.Frames), d.tally(ByStack, o.Frames)
	l.at(at, held.add)
	if o.Page && e.By != ByStack {
		l.at(at, stacks.add)
	}
	scans := make([]*scan, len(refusals))
	for k, refusal := range refusals {
		scans[k] = d.scan(refusal)
		l.at(refusal.Index, scans[k].add)
	}
	l.look()
	out.Parts = parts.parts()
	if o.Page && out.HasHistory {
		out.Curve = r.Curve(curvePoints)
	}
	if t := r.Totals; t != nil {
		d.sums(&out, t)
	}
	if err := d.refused(&out, scans, o); err != nil {
		return fmt.Errorf("%s: %w", r.Name(), err)
	}
	e.Devices = append(e.Devices, out)
	if g := d.growth(); o.Growth && g != nil {
		e.Growth = append(e.Growth, *g)
	}
	list := e.Holders()
	*list = append(*list, held.holders()...)
	e.Stacks = append(e.Stacks, stacks.holders()...)
	return nil
}

// sums takes what a profiler's trace says of the device in place of what its blocks do.
func (d *device) sums(out *Device, t *snapshot.Totals) {
	out.SumsAlone, out.Parts = true, nil
	out.Account = Account{Reserved: t.Reserved, Live: t.Allocated, Blocks: out.Blocks}
	if out.Reserved > 0 {
		out.Free = max(0, t.Reserved-t.Allocated)
	}
	live := max(t.PeakAlloc, d.peaks.Live)
	if out.HasHistory {
		out.PeakLive, out.PeakHeld = &live, &t.PeakReserved
	}
	if t.PeakReserved == 0 { // the host's
		out.PeakHeld = nil
	}
	if out.HasHistory {
		out.Peak = &Peak{Event: d.peaks.LiveAt, Account: Account{Live: live}}
	}
}

// curvePoints is how many moments a curve has.
const curvePoints = 600

// looks is what is to be gathered at moments of a recording, each by its number of entries or atEnd. Segments go by
// once for each moment, and are not kept.
type looks struct {
	d    *device
	from map[int][]taker
}

// taker takes a segment, and for each of its blocks the entry that allocated it, or −1.
type taker func(s *snapshot.Segment, born []int32)

// atEnd is the moment after the last entry as the file states it, which tells blocks that wait for a stream apart.
const atEnd = math.MaxInt

func (d *device) looking() *looks { return &looks{d, map[int][]taker{}} }

func (l *looks) at(moment int, takers ...taker) { l.from[moment] = append(l.from[moment], takers...) }

// counted takes the account of a moment.
func (l *looks) counted(a *Account) taker {
	page := l.d.cfg.LargePage()
	return func(s *snapshot.Segment, _ []int32) { a.add(s, page) }
}

// look shows the takers what they asked for, the last moment first.
func (l *looks) look() {
	w := l.d.rec.Rewind(l.d.cfg.BlockSize)
	for _, moment := range slices.Backward(slices.Sorted(maps.Keys(l.from))) {
		segments := w.End()
		if moment != atEnd {
			segments = w.To(moment)
		}
		for s, born := range segments {
			for _, take := range l.from[moment] {
				take(s, born)
			}
		}
	}
}

// moment is the number of entries before the moment asked for, and its name.
func (d *device) moment(at string) (int, string, error) {
	switch at {
	case "":
		if d.rec.HasHistory() {
			return d.peaks.LiveAt, "peak", nil
		}
		return atEnd, "end", nil
	case "peak":
		return d.peaks.LiveAt, at, nil
	case "end":
		return atEnd, at, nil
	case "oom":
		if list := d.rec.Refusals(); len(list) > 0 {
			return list[0].Index, at, nil
		}
		return 0, at, fmt.Errorf("%s refused no request: there is no oom to look at", d.rec.Name())
	}
	if step, ok := strings.CutPrefix(at, "step:"); ok {
		n, err := d.stepAt(step)
		return n, at, err
	}
	n, end := 0, len(d.rec.Entries)
	if _, err := fmt.Sscanf(at, "%d", &n); err != nil || n < 0 || n > end || fmt.Sprint(n) != at {
		return 0, at, fmt.Errorf("moment %q: want peak, end, oom, step:N or a number of entries up to %d", at, end)
	}
	return n, at, nil
}
