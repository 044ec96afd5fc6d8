package pytorch

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
)

// sharedData is the folder of recordings, which the repository does not carry.
func sharedData(t testing.TB, elements ...string) string {
	t.Helper()
	root := os.Getenv("VLMEM_SHARED_DATA")
	if root == "" {
		root = "../../../../shared/data"
	}
	path := filepath.Join(append([]string{root}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no recordings here (VLMEM_SHARED_DATA): %v", err)
	}
	return path
}

// replay runs a trace with all streams as one and returns the largest sum of requested bytes.
func replay(t testing.TB, a *Allocator, tr *trace.Trace) (lowerBound int64) {
	t.Helper()
	blocks := make([]alloc.Block, tr.Slots)
	for i, e := range tr.Events {
		var err error
		switch e.Op {
		case trace.OpAlloc:
			blocks[e.Slot], err = a.Alloc(alloc.Request{Size: e.Size})
		case trace.OpFree:
			err = a.Free(blocks[e.Slot])
		}
		if err != nil {
			t.Fatalf("%s: event %d: %v", tr.Name, i, err)
		}
		lowerBound = max(lowerBound, a.stats.Requested)
	}
	return lowerBound
}

// The peak of all segments from an empty start, over the lower bound, as an independent replay computed it.
func TestOverheadFromEmptyStart(t *testing.T) {
	f, err := os.Open(sharedData(t, "pytorch_snapshots", "expected_overheads.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row := regexp.MustCompile(`^(\S+) .*native \+([\d.]+)%`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m := row.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("unexpected line %q", lines.Text())
		}
		want, _ := strconv.ParseFloat(m[2], 64)
		t.Run(m[1], func(t *testing.T) {
			traces, err := trace.Open(sharedData(t, "pytorch_snapshots", m[1]+".csv.gz"))
			if err != nil {
				t.Fatal(err)
			}
			a, _ := New(DefaultConfig(), 0)
			bound := replay(t, a, traces[0])
			if err := a.Check(); err != nil {
				t.Fatal(err)
			}
			if got := 100 * (float64(a.Stats().PeakReserved)/float64(bound) - 1); got < want-0.006 || got > want+0.006 {
				t.Errorf("overhead %.3f %%, want %.2f %%", got, want)
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	for _, conf := range []string{"", "expandable_segments:True", "max_split_size_mb:128"} {
		b.Run("conf="+conf, func(b *testing.B) {
			traces, err := trace.Open(sharedData(b, "pytorch_snapshots", "wedsonlin_medium_128_training.dev0.csv.gz"))
			if err != nil {
				b.Fatal(err)
			}
			cfg, err := ParseConf(conf)
			if err != nil {
				b.Fatal(err)
			}
			events := 0
			for b.Loop() {
				a, _ := New(cfg, 0)
				replay(b, a, traces[0])
				events += len(traces[0].Events)
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
