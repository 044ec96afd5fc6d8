package trace

import (
	"cmp"
	"math/bits"
	"slices"
)

// Info describes a trace: what a person asks of a recording before replaying it. Sizes are requested bytes.
type Info struct {
	Name   string `json:"name" yaml:"name"`
	Events int64  `json:"events" yaml:"events"`
	// that the program made, without those at the start
	Allocs int64 `json:"allocs" yaml:"allocs"`
	// there before the first event
	Start      int64           `json:"start_blocks,omitempty" yaml:"start_blocks,omitempty"`
	StartBytes int64           `json:"start_bytes,omitempty" yaml:"start_bytes,omitempty"`
	Refused    int             `json:"refused,omitempty" yaml:"refused,omitempty"` // requests that the device refused
	Frees      int64           `json:"frees" yaml:"frees"`
	Bytes      int64           `json:"allocated_bytes" yaml:"allocated_bytes"`     // sum over all allocations
	LiveBytes  int64           `json:"live_bytes" yaml:"live_bytes"`               // at the end
	LiveBlocks int64           `json:"live_blocks" yaml:"live_blocks"`             // at the end
	LowerBound int64           `json:"lower_bound_bytes" yaml:"lower_bound_bytes"` // the largest sum live at one time
	PeakBlocks int64           `json:"peak_blocks" yaml:"peak_blocks"`             // live at that time
	PeakEvent  int64           `json:"peak_event" yaml:"peak_event"`               // counted from 0
	Seconds    float64         `json:"seconds" yaml:"seconds"`                     // to the last event; 0 where unknown
	Sizes      []SizeClass     `json:"sizes" yaml:"sizes"`
	Lifetimes  []LifetimeClass `json:"lifetimes" yaml:"lifetimes"`
	Streams    []StreamInfo    `json:"streams" yaml:"streams"`
	Kinds      []KindInfo      `json:"kinds" yaml:"kinds"`
	Sites      []Site          `json:"sites" yaml:"sites"` // by their own peak, largest first
	Warnings   []string        `json:"warnings,omitempty" yaml:"warnings,omitempty"`
}

// SizeClass is the allocations of at least From and less than 2·From bytes.
type SizeClass struct {
	From   int64 `json:"from_bytes" yaml:"from_bytes"`
	Allocs int64 `json:"allocs" yaml:"allocs"`
	Bytes  int64 `json:"bytes" yaml:"bytes"`
}

// LifetimeClass is the blocks that lived at least From and less than 2·From events.
type LifetimeClass struct {
	From   int64 `json:"from_events" yaml:"from_events"`
	Blocks int64 `json:"blocks" yaml:"blocks"`
	Bytes  int64 `json:"bytes" yaml:"bytes"`
}

// StreamInfo is what was allocated on one stream.
type StreamInfo struct {
	Stream uint16 `json:"stream" yaml:"stream"`
	Allocs int64  `json:"allocs" yaml:"allocs"`
	Bytes  int64  `json:"bytes" yaml:"bytes"`
}

// KindInfo is what was allocated for one pool.
type KindInfo struct {
	Kind   string `json:"kind" yaml:"kind"`
	Allocs int64  `json:"allocs" yaml:"allocs"`
	Bytes  int64  `json:"bytes" yaml:"bytes"`
	Peak   int64  `json:"peak_bytes" yaml:"peak_bytes"` // largest sum live at one time, of this kind
}

// Site is what one call site allocated.
type Site struct {
	Name   string `json:"site" yaml:"site"`
	Allocs int64  `json:"allocs" yaml:"allocs"`
	Bytes  int64  `json:"bytes" yaml:"bytes"`
	Peak   int64  `json:"peak_bytes" yaml:"peak_bytes"` // largest sum live at one time, from this site
}

// usage is a running sum with its peak.
type usage struct{ allocs, bytes, live, peak int64 }

func (u *usage) add(size int64) {
	u.allocs++
	u.bytes += size
	u.live += size
	u.peak = max(u.peak, u.live)
}

// birth is what a Survey remembers of a live block.
type birth struct {
	size, event int64
	tag         uint32
	kind        Kind
}

// Survey gathers an Info from a stream of valid events, in memory for the live blocks, the streams and the sites.
type Survey struct {
	Start int // events at the head that are a state, as Trace.Start

	start            usage
	events, frees    int64
	total            usage
	blocks           int64
	peakBlocks, peak int64
	last             int64 // ns
	births           []birth
	sizes, lifetimes [64]usage
	streams          map[uint16]*usage
	kinds            [kinds]usage
	sites            []usage
}

// NewSurvey is a Survey of no events.
func NewSurvey() *Survey { return &Survey{streams: map[uint16]*usage{}} }

// Add takes the next event.
func (s *Survey) Add(e Event) {
	s.last = max(s.last, e.TimeNs)
	switch e.Op {
	case OpAlloc:
		s.alloc(e)
	case OpFree:
		s.free(e)
	}
	s.events++
}

func (s *Survey) alloc(e Event) {
	for int(e.Slot) >= len(s.births) {
		s.births = append(s.births, birth{})
	}
	for int(e.Tag) >= len(s.sites) {
		s.sites = append(s.sites, usage{})
	}
	if s.streams[e.Stream] == nil {
		s.streams[e.Stream] = &usage{}
	}
	s.births[e.Slot] = birth{e.Size, s.events, e.Tag, e.Kind}
	s.sizes[bits.Len64(uint64(e.Size))-1].add(e.Size)
	s.streams[e.Stream].add(e.Size)
	s.kinds[e.Kind].add(e.Size)
	s.sites[e.Tag].add(e.Size)
	if s.events < int64(s.Start) {
		s.start.add(e.Size)
	}
	s.blocks++
	before := s.total.peak
	if s.total.add(e.Size); s.total.peak > before {
		s.peak, s.peakBlocks = s.events, s.blocks
	}
}

func (s *Survey) free(e Event) {
	b := s.births[e.Slot]
	s.frees++
	s.blocks--
	s.total.live -= b.size
	s.kinds[b.kind].live -= b.size
	s.sites[b.tag].live -= b.size
	s.lifetimes[bits.Len64(uint64(s.events-b.event))-1].add(b.size)
}

// Info is what was seen so far, with the sites that peak highest, at most top of them, named by tags.
func (s *Survey) Info(name string, tags []string, top int) Info {
	info := Info{Name: name, Events: s.events, Allocs: s.total.allocs - s.start.allocs, Start: s.start.allocs,
		StartBytes: s.start.bytes, Frees: s.frees, Bytes: s.total.bytes,
		LiveBytes:  s.total.live,
		LiveBlocks: s.blocks, LowerBound: s.total.peak, PeakBlocks: s.peakBlocks, PeakEvent: s.peak,
		Seconds: float64(s.last) / 1e9}
	for i := range s.sizes {
		if u := s.sizes[i]; u.allocs > 0 {
			info.Sizes = append(info.Sizes, SizeClass{1 << i, u.allocs, u.bytes})
		}
		if u := s.lifetimes[i]; u.allocs > 0 {
			info.Lifetimes = append(info.Lifetimes, LifetimeClass{1 << i, u.allocs, u.bytes})
		}
	}
	for n, u := range s.streams {
		info.Streams = append(info.Streams, StreamInfo{n, u.allocs, u.bytes})
	}
	slices.SortFunc(info.Streams, func(a, b StreamInfo) int { return cmp.Compare(a.Stream, b.Stream) })
	for k, u := range s.kinds {
		if u.allocs > 0 {
			info.Kinds = append(info.Kinds, KindInfo{Kind(k).String(), u.allocs, u.bytes, u.peak})
		}
	}
	for tag, u := range s.sites {
		if tag > 0 && u.allocs > 0 {
			info.Sites = append(info.Sites, Site{tags[tag], u.allocs, u.bytes, u.peak})
		}
	}
	slices.SortStableFunc(info.Sites, func(a,
		b Site) int {
		return cmp.Or(-cmp.Compare(a.Peak, b.Peak), -cmp.Compare(a.Bytes, b.Bytes))
	})
	info.Sites = info.Sites[:min(top, len(info.Sites))]
	return info
}

// Info surveys a trace in memory.
func (t *Trace) Info(top int) Info {
	s := NewSurvey()
	s.Start = t.Start
	for _, e := range t.Events {
		s.Add(e)
	}
	info := s.Info(t.Name, t.Tags, top)
	info.Warnings, info.Refused = t.Warnings, len(t.Refused)
	return info
}
