package pytorch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// program makes a trace of n events whose sizes, lifetimes and use of streams resemble training and inference: most
// blocks die young, some sizes repeat, some blocks are used on a second stream.
func program(r *rand.Rand, n, streams int) *trace.Trace {
	b := trace.NewBuilder("program")
	t := b.Trace()
	var live []uint32
	sizes := make([]int64, 24)
	for i := range sizes {
		sizes[i] = 1 + r.Int64N(1<<(6+r.IntN(20)))
	}
	stream := func() uint16 { return uint16(r.IntN(streams)) }
	for b.Len() < n {
		switch k := r.IntN(100); {
		case len(live) == 0 || k < 45 && len(live) < 200:
			live = append(live, b.Alloc(sizes[r.IntN(len(sizes))]+r.Int64N(3)*512, trace.General, stream(), 0))
		case k < 90:
			i := len(live) - 1 - min(r.IntN(len(live)), r.IntN(len(live)))
			b.Free(live[i], 0)
			live = append(live[:i], live[i+1:]...)
		case streams == 1:
		case k < 96:
			t.Events = append(t.Events, trace.Event{Op: trace.OpUse, Slot: live[r.IntN(len(live))], Stream: stream()})
		case k < 99:
			t.Events = append(t.Events, trace.Event{Op: trace.OpSync, Stream: stream()})
		default:
			t.Events = append(t.Events, trace.Event{Op: trace.OpSync, Stream: trace.AllStreams})
		}
	}
	return b.Trace()
}

// settings are configurations that recordings do not exercise.
var settings = []string{
	"",
	"max_split_size_mb:24",
	"max_split_size_mb:24,max_non_split_rounding_mb:20",
	"roundup_power2_divisions:4",
	"roundup_power2_divisions:[1:1,2:2,4:4,>:8]",
	"garbage_collection_threshold:0.5,per_process_memory_fraction:0.9",
	"large_segment_size_mb:12",
	"expandable_segments:True",
	"expandable_segments:True,roundup_power2_divisions:8",
	"expandable_segments:True,large_segment_size_mb:12",
}

// What the policy records of itself must be reproduced from the end and the entries alone, on devices that never run
// out and on small ones, on one stream and on three, and where the ring buffer lost its beginning.
func TestRecordThenCheck(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 3
	}
	for _, conf := range settings {
		t.Run("conf="+conf, func(t *testing.T) {
			cfg, err := ParseConf(conf)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range seeds {
				for _, total := range []int64{0, 300 * mib} {
					for _, streams := range []int{1, 3} {
						for _, keep := range []int{1 << 30, 1500} {
							name := fmt.Sprintf("seed %d, device of %d bytes, %d streams, the last %d entries", seed, total, streams, keep)
							recordThenCheck(t, name, program(rand.New(rand.NewPCG(seed, 1)), 3000, streams), cfg, total, keep)
						}
					}
				}
			}
		})
	}
}

// TestNamesOfStreamsMeanNothing: with its streams renamed a program asks the driver for the same segments and gives
// the same back. Where several are given back at once, the lowest stream's are first: the order is of names.
func TestNamesOfStreamsMeanNothing(t *testing.T) {
	names := []uint16{2, 0, 1}
	for _, conf := range settings {
		cfg, err := ParseConf(conf)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(4) {
			tr := program(rand.New(rand.NewPCG(seed, 5)), 1500, len(names))
			want, err := Record(tr, cfg, 300*mib)
			if err != nil {
				t.Fatal(err)
			}
			for i := range tr.Events {
				if e := &tr.Events[i]; e.Stream != trace.AllStreams {
					e.Stream = names[e.Stream]
				}
			}
			got, err := Record(tr, cfg, 300*mib)
			if err != nil {
				t.Fatal(err)
			}
			if a, b := driven(got), driven(want); !slices.Equal(a, b) {
				t.Errorf("%q, seed %d: %d calls of the driver, %d before", conf, seed, len(a), len(b))
			}
		}
	}
}

// driven is what a recording's program asked of the driver, sorted.
func driven(s *snapshot.Snapshot) (calls []string) {
	for _, e := range s.Traces[0] {
		switch e.Action {
		case snapshot.SegmentAlloc, snapshot.SegmentFree, snapshot.SegmentMap, snapshot.SegmentUnmap:
			calls = append(calls, fmt.Sprint(e.Action, e.Size))
		}
	}
	slices.Sort(calls)
	return calls
}

func recordThenCheck(t *testing.T, name string, tr *trace.Trace, cfg Config, total int64, keep int) {
	t.Helper()
	s, err := Record(tr, cfg, total)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	entries := s.Traces[0]
	s.Traces[0] = entries[max(0, len(entries)-keep):]
	r := s.Recordings()
	stated, err := ConfigOf(&r[0])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got := Check(&r[0], stated, total); !got.Exact() {
		t.Errorf("%s: %+v", name, got)
	}
}

// Where blocks of the large pool keep tails, the start of a recording leaves hundreds of sizes open; later placements
// tell.
func TestCheckConcludesTailsOfPrograms(t *testing.T) {
	concluded := 0
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		b := trace.NewBuilder("tails")
		var live []uint32
		for b.Len() < 3000 {
			if len(live) == 0 || r.IntN(100) < 52 && len(live) < 100 {
				live = append(live, b.Alloc(mib+r.Int64N(5*mib), trace.General, 0, 0))
				continue
			}
			i := r.IntN(len(live))
			b.Free(live[i], 0)
			live = append(live[:i], live[i+1:]...)
		}
		s, err := Record(b.Trace(), DefaultConfig(), 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Traces[0] = s.Traces[0][1000:]
		got := Check(&s.Recordings()[0], DefaultConfig(), 0)
		if !got.Exact() {
			t.Errorf("seed %d: %+v", seed, got)
		}
		concluded += got.TailsConcluded
	}
	if concluded == 0 {
		t.Error("no tail had to be concluded")
	}
}

// Flat rows lose which segments are expandable and the sizes of free blocks; pages alone among the events tell the
// first.
func TestCheckFlatRows(t *testing.T) {
	for _, conf := range []string{"", "expandable_segments:True"} {
		cfg, err := ParseConf(conf)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Record(program(rand.New(rand.NewPCG(5, 1)), 3000, 2), cfg, 300*mib)
		if err != nil {
			t.Fatal(err)
		}
		s.Traces[0] = s.Traces[0][len(s.Traces[0])-2500:]
		var rows bytes.Buffer
		if err := snapshot.WriteCSV(&rows, &s.Recordings()[0]); err != nil {
			t.Fatal(err)
		}
		r, err := snapshot.ReadCSV(&rows, "rows")
		if err != nil {
			t.Fatal(err)
		}
		stated, err := ConfigOf(&r)
		if err != nil || stated.Expandable != cfg.Expandable {
			t.Fatalf("%q: read as %q, %v", conf, stated, err)
		}
		if got := Check(&r, stated, 300*mib); !got.Exact() || got.SegmentsTotal+got.ReleasesTotal == 0 {
			t.Errorf("%q: %+v", conf, got)
		}
	}
}

// The allocator's own invariants hold after every operation, and the requested bytes are those of the live blocks.
func TestInvariantsHold(t *testing.T) {
	for _, conf := range settings {
		t.Run("conf="+conf, func(t *testing.T) {
			cfg, err := ParseConf(conf)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3) {
				a, _ := New(cfg, 300*mib)
				r := recorder{a: a, t: program(rand.New(rand.NewPCG(seed, 2)), 600, 3)}
				r.blocks = make([]alloc.Block, r.t.Slots)
				for i, e := range r.t.Events {
					if err := r.event(e); err != nil {
						t.Fatal(err)
					}
					if err := a.Check(); err != nil {
						t.Fatalf("seed %d, after event %d: %v", seed, i, err)
					}
				}
			}
		})
	}
}
