package pytorch

import (
	"strings"
	"testing"
)

func TestParseConf(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := DefaultConfig()
		change(&c)
		return c
	}
	for _, c := range []struct {
		conf string
		want Config
	}{
		{"", DefaultConfig()},
		{"backend:native", DefaultConfig()},
		{" max_split_size_mb : 128 , ", with(func(c *Config) { c.MaxSplitSize = 128 * mib })},
		{"max_split_size_mb:20", with(func(c *Config) { c.MaxSplitSize = 20 * mib })},
		{"max_split_size_mb:12,large_segment_size_mb:11",
			with(func(c *Config) { c.MaxSplitSize, c.LargeSegmentSize = 12*mib, 11*mib })},
		{"max_split_size_mb:99999999999999999", DefaultConfig()},
		{"max_non_split_rounding_mb:12,large_segment_size_mb:12",
			with(func(c *Config) { c.MaxNonSplitRounding, c.LargeSegmentSize = 12*mib, 12*mib })},
		{"large_segment_size_mb:30,large_segment_size_mb:12,max_split_size_mb:20",
			with(func(c *Config) { c.MaxSplitSize, c.LargeSegmentSize = 20*mib, 12*mib })},
		{"large_segment_size_mb:30", with(func(c *Config) { c.LargeSegmentSize = 30 * mib })},
		{"release_lock_on_hipmalloc:True,pinned_use_hip_host_register:True", DefaultConfig()},
		{"roundup_power2_divisions:[256:0,>:0]", DefaultConfig()},
		{"max_non_split_rounding_mb:32", with(func(c *Config) { c.MaxNonSplitRounding = 32 * mib })},
		{"garbage_collection_threshold:0.6,per_process_memory_fraction:1",
			with(func(c *Config) { c.GCThreshold, c.MemoryFraction = 0.6, 1 })},
		{"expandable_segments:True", with(func(c *Config) { c.Expandable = true })},
		{"expandable_segments:False", DefaultConfig()},
		{"roundup_power2_divisions:4", with(func(c *Config) {
			for i := range c.Roundup {
				c.Roundup[i] = 4
			}
		})},
		{"roundup_power2_divisions:[256:1,512:2,1024:4,>:8]", with(func(c *Config) {
			c.Roundup = [16]int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 8, 8, 8, 8}
		})},
		{"roundup_power2_divisions:[64:8,128:2]", with(func(c *Config) { c.Roundup = [16]int64{8, 8, 8, 8, 8, 8, 8, 2} })},
		{"pinned_use_background_threads:True,pinned_num_register_threads:8,release_lock_on_cudamalloc:False",
			DefaultConfig()},
		{"expandable_segments_reserve:40G,pinned_reserve_segment_size_mb:64," +
			"expandable_segments_reserve_by_class:[a:0.5,b:1G]",
			DefaultConfig()},
	} {
		got, err := ParseConf(c.conf)
		if err != nil || got != c.want {
			t.Errorf("%q: got %+v, %v, want %+v", c.conf, got, err, c.want)
		}
		if again, err := ParseConf(got.String()); err != nil || again != got {
			t.Errorf("%q: written as %q it reads as %+v, %v", c.conf, got.String(), again, err)
		}
	}
}

func TestParseConfRefuses(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"max_split_size", `unknown key "max_split_size": want one of backend, max_split_size_mb`},
		{"max_split_size_mb", `max_split_size_mb: want ":", got ""`},
		{"max_split_size_mb:", `max_split_size_mb: "": want a whole number`},
		{"max_split_size_mb:20x", `max_split_size_mb: "20x": want a whole number`},
		{"max_split_size_mb:19", "max_split_size_mb: want at least large_segment_size_mb, 20"},
		{"large_segment_size_mb:10", "large_segment_size_mb: 10: want at least 11"},
		{"max_non_split_rounding_mb:19", "max_non_split_rounding_mb: want at least large_segment_size_mb, 20"},
		// What the parser of torch 2.15.0 answers: the last floor counts, wherever it stands, for every value given.
		{"max_split_size_mb:25,large_segment_size_mb:30", "max_split_size_mb: want at least large_segment_size_mb, 30"},
		{"large_segment_size_mb:12,large_segment_size_mb:30,max_split_size_mb:20", "large_segment_size_mb, 30"},
		{"max_split_size_mb:30,large_segment_size_mb:64,max_split_size_mb:128", "large_segment_size_mb, 64"},
		{"max_non_split_rounding_mb:25,large_segment_size_mb:30", "max_non_split_rounding_mb: want at least"},
		{"roundup_power2_divisions:0", "0 divisions: want a power of two"},
		{"roundup_power2_divisions:[0:1]", `"0": want a power of two in MiB`},
		{"pinned_reserve_segment_size_mb:0", "0: want at least 1"},
		{"expandable_segments:True,,max_split_size_mb:64", `unknown key ","`},
		{"garbage_collection_threshold:1", `"1": want a number above 0 and below 1`},
		{"garbage_collection_threshold:NaN", `"NaN": want a number above 0 and below 1`},
		{"per_process_memory_fraction:1.5", `"1.5": want a number from 0 to 1`},
		{"expandable_segments:true", `expandable_segments: "true": want exactly True or False`},
		{"expandable_segments:1", `want exactly True or False`},
		{"expandable_segments:True max_split_size_mb:20", `want exactly True or False`},
		{"expandable_segments:True;max_split_size_mb:20", `want exactly True or False`},
		{"backend:cudaMallocAsync", "leaves placement to the driver"},
		{"backend:other", `"other": want native`},
		{"roundup_power2_divisions:3", "3 divisions: want a power of two"},
		{"roundup_power2_divisions:[3:2]", `"3": want a power of two in MiB, or >`},
		{"roundup_power2_divisions:[256:1", "want , or ] in the list"},
		{"roundup_power2_divisions:[256", `want ":", got ""`},
		{"pinned_num_register_threads:3", "3: want a power of two up to 128"},
		{"pinned_use_background_threads:yes", "want exactly True or False"},
	} {
		_, err := ParseConf(c.conf)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "PYTORCH_ALLOC_CONF ") {
			t.Errorf("%q: got %v, want an error with %q", c.conf, err, c.want)
		}
	}
}

func FuzzParseConf(f *testing.F) {
	f.Add("max_split_size_mb:128,roundup_power2_divisions:[256:1,>:8],expandable_segments:True")
	f.Fuzz(func(t *testing.T, conf string) {
		c, err := ParseConf(conf)
		if err != nil {
			return
		}
		for _, n := range []int64{1, 512, 1 << 20, 1<<20 + 1, 10 << 20, 1<<30 + 3, 1 << 50} {
			if r := c.round(n); r < n || r%minBlock != 0 || r > 2*n+minBlock {
				t.Fatalf("%q rounds %d to %d", conf, n, r)
			}
		}
	})
}

// Sizes by the rules of c10/cuda/CUDACachingAllocator.cpp.
func TestRounding(t *testing.T) {
	plain := DefaultConfig()
	four, eight, one := plain, plain, plain
	for i := range four.Roundup {
		four.Roundup[i], eight.Roundup[i], one.Roundup[i] = 4, 8, 1
	}
	for _, c := range []struct {
		cfg        Config
		size, want int64
	}{
		{plain, 1, 512}, {plain, 511, 512}, {plain, 512, 512}, {plain, 513, 1024}, {plain, 1 << 20, 1 << 20},
		{plain, 1<<20 + 1, 1<<20 + 512},
		{four, 1200 << 10, 1280 << 10}, // between 1 MiB and 2 MiB in steps of 256 KiB
		{four, 1 << 20, 1 << 20},       // powers of two stay
		{four, 2048, 2048},             // not above 512 · 4
		{four, 2049, 2560},             // step 512
		{eight, 1200 << 10, 1280 << 10},
		{eight, 1290 << 10, 1408 << 10}, // step 128 KiB
		{one, 1200<<10 + 1, 1200<<10 + 512},
	} {
		if got := c.cfg.round(c.size); got != c.want {
			t.Errorf("%d divisions: %d bytes round to %d, want %d", c.cfg.Roundup[0], c.size, got, c.want)
		}
	}
	for _, c := range []struct{ size, want int64 }{
		{512, 2 * mib}, {1 * mib, 2 * mib}, {1*mib + 512, 20 * mib}, {10*mib - 512, 20 * mib}, {10 * mib, 10 * mib},
		{10*mib + 512, 12 * mib}, {155 * mib, 156 * mib},
	} {
		if got := plain.segmentSize(c.size); got != c.want {
			t.Errorf("a block of %d bytes takes a segment of %d, want %d", c.size, got, c.want)
		}
	}
}
