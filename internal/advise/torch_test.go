package advise_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// churn frees large blocks of one size and asks for others a little larger: the default allocator keeps both.
func churn() *trace.Trace {
	b := trace.NewBuilder("churn")
	for i := range int64(20) {
		size := (12 + 2*i) << 20
		slot := b.Alloc(size+1<<20, trace.General, 0, 0)
		b.Free(slot, 0)
	}
	return b.Trace()
}

func TestTuneTorchFindsWhatHelps(t *testing.T) {
	c, err := advise.TuneTorch([]*trace.Trace{churn()}, advise.TorchOptions{Recorded: "max_split_size_mb:64"})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Helps() || c.Best.Conf != "expandable_segments:True" || c.Best.Reserved != 60*units.MiB {
		t.Errorf("best is %q with %s; want pages of 20 MiB that grow to 60 MiB", c.Best.Conf, c.Best.Reserved)
	}
	if c.Recorded == nil || c.Recorded.Conf != "max_split_size_mb:64" || len(c.HeldOut) != 2 {
		t.Errorf("recorded %+v, %d held out", c.Recorded, len(c.HeldOut))
	}
	if agree, of := c.Confidence(); agree != 2 || of != 2 {
		t.Errorf("%d of %d agree", agree, of)
	}
}

func TestTuneTorchSaysThatNothingHelps(t *testing.T) {
	b := trace.NewBuilder("one")
	b.Free(b.Alloc(40<<20, trace.General, 0, 0), 0)
	c, err := advise.TuneTorch([]*trace.Trace{b.Trace()}, advise.TorchOptions{})
	if err != nil || c.Helps() || c.Best.Conf != "" || c.Default.Reserved != 40*units.MiB {
		t.Errorf("%+v, %v", c.Best, err)
	}
}

// TestTuneTorchOnRecordings holds what is recommended to the best of the grid, nowhere worse than the default.
func TestTuneTorchOnRecordings(t *testing.T) {
	folder := os.Getenv("VLMEM_SHARED_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	paths, _ := filepath.Glob(filepath.Join(folder, "pytorch_snapshots", "*.csv.gz"))
	if len(paths) == 0 {
		t.Skip("no recordings: VLMEM_SHARED_DATA names no folder with pytorch_snapshots")
	}
	for _, path := range paths {
		traces, err := trace.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if testing.Short() && len(traces[0].Events) > 5000 {
			continue
		}
		c, err := advise.TuneTorch(traces, advise.TorchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Tried {
			if s.Reserved < c.Best.Reserved && s.Each[0] <= c.Default.Each[0] {
				t.Errorf("%s: %q reserves %s, the recommended %q %s", path, s.Conf, s.Reserved, c.Best.Conf, c.Best.Reserved)
			}
		}
		if c.Best.Reserved > c.Default.Reserved || c.Best.Reserved < c.LowerBound {
			t.Errorf("%s: %s recommended, %s by default, at least %s", path, c.Best.Reserved, c.Default.Reserved, c.LowerBound)
		}
	}
}
