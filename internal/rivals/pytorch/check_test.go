package pytorch

import (
	"bufio"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

func recordings(t testing.TB, path string) []snapshot.Recording {
	t.Helper()
	f, err := trace.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := f.Recordings()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// Every address of the recordings, as flat rows and as snapshots where there is one, against an independent replay's
// count.
func TestCheckRecordings(t *testing.T) {
	f, err := os.Open(sharedData(t, "pytorch_snapshots", "expected_native_policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	addresses, segments := regexp.MustCompile(`'addr_ok': (\d+)`), regexp.MustCompile(`'seg_size_ok': (\d+)`)
	number := func(re *regexp.Regexp, line string) int {
		if m := re.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return 0
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		csv := strings.Fields(lines.Text())[1]
		for _, name := range []string{csv, strings.TrimSuffix(csv, ".dev0.csv.gz") + ".pickle"} {
			t.Run(name, func(t *testing.T) {
				r := recordings(t, sharedData(t, "pytorch_snapshots", name))
				cfg, err := ConfigOf(&r[0])
				if err != nil {
					t.Fatal(err)
				}
				got := Check(&r[0], cfg, 0)
				if want := number(addresses, lines.Text()); !got.Exact() || got.AddressesTotal != want {
					t.Errorf("%d of %d addresses, want all of %d; first mismatch: %s", got.AddressesMatched, got.AddressesTotal, want,
						got.FirstMismatch)
				}
				if want := number(segments, lines.Text()); got.SegmentsMatched != want || got.SegmentsTotal != want {
					t.Errorf("%d of %d segments, want all of %d", got.SegmentsMatched, got.SegmentsTotal, want)
				}
			})
		}
	}
}

// The four-stream file is a made-up one: every address is odd and in no segment. Nothing can be predicted, and that is
// said.
func TestCheckOutsideSegments(t *testing.T) {
	r := recordings(t, sharedData(t, "pytorch_snapshots", "mosaic_output_4streams.pickle"))
	got := Check(&r[0], DefaultConfig(), 0)
	if got.Exact() || got.AddressesTotal != 0 || got.Unplaced != 520 || len(got.Warnings) == 0 {
		t.Errorf("got %+v, want 520 unplaced allocations and a warning", got)
	}
}

// A recording that was changed must not pass.
func TestCheckFindsMismatch(t *testing.T) {
	r := recordings(t, sharedData(t, "pytorch_snapshots", "silmont_mem_snapshot.pickle"))
	entries := append([]snapshot.Entry(nil), r[0].Entries...)
	for i := range entries {
		if entries[i].Action == snapshot.Alloc && entries[i].Addr == 139781765857280 {
			entries[i].Addr += 2 * mib
		}
	}
	r[0].Entries = entries
	got := Check(&r[0], DefaultConfig(), 0)
	if got.Exact() || got.AddressesMatched < got.AddressesTotal/2 ||
		!strings.Contains(got.FirstMismatch, "predicted address 139781765857280, recorded 139781767954432") {
		t.Errorf("got %+v, want one early mismatch", got)
	}
}

// A segment taken where a cached block fits is a mismatch, though its address is the recording's.
func TestCheckNeedlessSegment(t *testing.T) {
	const base = int64(1) << 40
	r := snapshot.Recording{Entries: []snapshot.Entry{
		{Action: snapshot.SegmentAlloc, Addr: base, Size: 2 * mib},
		{Action: snapshot.Alloc, Addr: base, Size: 512},
		{Action: snapshot.SegmentAlloc, Addr: base + 4*mib, Size: 2 * mib},
		{Action: snapshot.Alloc, Addr: base + 4*mib, Size: 512},
		{Action: snapshot.Alloc, Addr: base + 512, Size: 512},
	}}
	got := Check(&r, DefaultConfig(), 0)
	if got.AddressesTotal != 3 || got.AddressesMatched != 2 || got.SegmentsTotal != 2 || got.SegmentsMatched != 1 ||
		got.FirstMismatch == "" {
		t.Errorf("got %+v, want the second segment and its block to differ", got)
	}
}

// A block that was there at the start may have kept a tail which nothing in the file states; where the next block is
// placed behind it tells.
func TestCheckConcludesTails(t *testing.T) {
	const base = int64(1) << 40
	r := snapshot.Recording{
		Segments: []snapshot.Segment{{Address: base, TotalSize: 20 * mib}},
		Live:     []snapshot.Live{{Address: base, Requested: 3 * mib, Size: 3 * mib}},
		Entries: []snapshot.Entry{
			{Action: snapshot.Alloc, Addr: base + 3*mib + 960<<10, Size: 2 * mib},
			{Action: snapshot.FreeCompleted, Addr: base, Size: 3 * mib},
			{Action: snapshot.Alloc, Addr: base, Size: 3*mib + 960<<10},
		},
	}
	if got := Check(&r, DefaultConfig(), 0); !got.Exact() || got.TailsConcluded != 1 {
		t.Errorf("got %+v, want an exact replay with one tail concluded", got)
	}
}

func BenchmarkCheck(b *testing.B) {
	path := sharedData(b, "pytorch_snapshots", "wedsonlin_medium_128_training.dev0.csv.gz")
	r := recordings(b, path)
	for b.Loop() {
		Check(&r[0], DefaultConfig(), 0)
	}
	b.ReportMetric(float64(b.N*len(r[0].Entries))/b.Elapsed().Seconds(), "entries/s")
}
