package pytorch

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
)

// script runs operations, one a word, on a device of total MiB, and renders what they did:
//
//	a=SIZE    allocate as block a, in MiB, or KiB where SIZE ends in k; a/2=SIZE on stream 2
//	-a        free block a
//	a>2       stream 2 uses block a
//	sync2     stream 2 has done its work
//	empty     empty the cache
//
// Each allocation answers with its address in KiB, or "oom".
func script(t *testing.T, conf string, total int64, text string) (string, *Allocator) {
	t.Helper()
	cfg, err := ParseConf(conf)
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(cfg, total*mib)
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string]alloc.Block{}
	var out []string
	for _, word := range strings.Fields(text) {
		name, size, isAlloc := strings.Cut(word, "=")
		user, stream, isUse := strings.Cut(word, ">")
		switch {
		case isAlloc:
			var n int64
			unit := mib
			if strings.HasSuffix(size, "k") {
				unit = 1 << 10
			}
			fmt.Sscan(strings.TrimSuffix(size, "k"), &n)
			name, stream, _ := strings.Cut(name, "/")
			var s uint16
			fmt.Sscan(stream, &s)
			b, err := a.Alloc(alloc.Request{Size: n * unit, Stream: s})
			if errors.Is(err, alloc.ErrOutOfMemory) {
				out = append(out, name+":oom")
			} else if err != nil {
				t.Fatal(err)
			} else {
				blocks[name] = b
				out = append(out, fmt.Sprintf("%s:%d", name, b.Offset>>10))
			}
		case isUse:
			var s uint16
			fmt.Sscan(stream, &s)
			if err := a.RecordStream(blocks[user], s); err != nil {
				t.Fatal(err)
			}
		case strings.HasPrefix(word, "sync"):
			var s uint16
			fmt.Sscan(word[4:], &s)
			a.Synchronize(s)
		case word == "empty":
			a.EmptyCache()
		default:
			if err := a.Free(blocks[word[1:]]); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Check(); err != nil {
			t.Fatalf("after %s: %v", word, err)
		}
	}
	return strings.Join(out, " "), a
}

var policyScripts = []struct {
	name, conf string
	total      int64
	ops, want  string
	reserved   int64 // MiB at the end
}{
	{"small and large pools apart", "", 0, "a=512k b=2 c=512k", "a:0 b:2048 c:512", 22},
	{"a tail of 1 MiB stays with a large block", "", 0, "a=19 b=2", "a:0 b:20480", 40},
	{"a remainder above 1 MiB is split off", "", 0, "a=2 b=16 c=2", "a:0 b:2048 c:18432", 20},
	{"best fit, lowest address among equals", "", 0, "a=20 b=12 c=12 -a -b -c d=11 e=11 f=11",
		"a:0 b:20480 c:32768 d:20480 e:32768 f:0", 44},
	{"neighbours merge", "", 0, "a=4 b=4 c=4 -a -b d=8", "a:0 b:4096 c:8192 d:0", 20},
	{"no borrowing between streams", "", 0, "a=4 -a b/1=4 c=4", "a:0 b:20480 c:0", 40},

	{"max_split_size: a large block serves no small request", "max_split_size_mb:32", 0, "a=40 -a b=4", "a:0 b:40960",
		60},
	{"max_split_size: an oversize block is not split", "max_split_size_mb:32", 0, "a=50 -a b=34 c=4", "a:0 b:0 c:51200",
		70},
	{"max_non_split_rounding: nor given where too large", "max_split_size_mb:32", 0, "a=60 -a b=40", "a:0 b:61440", 100},
	{"max_non_split_rounding: just below", "max_split_size_mb:32", 0, "a=60 -a b=42", "a:0 b:0", 60},
	{"max_non_split_rounding: set", "max_split_size_mb:32,max_non_split_rounding_mb:30", 0, "a=60 -a b=34", "a:0 b:0",
		60},
	{"retry: oversize blocks go back, others stay where that is enough", "max_split_size_mb:32", 110,
		"a=40 b=40 c=12 d=10 -a -b -c e=80", "a:0 b:40960 c:81920 d:94208 e:0", 102},
	{"retry: only the oversize block that would do goes back", "max_split_size_mb:32", 200,
		"a=60 b=100 c=20 -a -b d=34", "a:0 b:61440 c:163840 d:0", 154},
	{"retry: everything unsplit goes back where oversize blocks are not enough", "max_split_size_mb:32", 100,
		"a=40 b=12 -a -b c=70", "a:0 b:40960 c:0", 70},

	{"retry: unsplit segments go back", "", 64, "a=30 b=30 -a -b c=50", "a:0 b:30720 c:0", 50},
	{"retry: split segments stay", "", 64, "a=2 b=40 -b c=44", "a:0 b:20480 c:20480", 64},
	{"out of memory", "", 64, "a=2 b=40 -b c=46", "a:0 b:20480 c:oom", 20},
	{"memory fraction", "per_process_memory_fraction:0.5", 64, "a=30 b=4", "a:0 b:oom", 30},

	{"collection frees what is at least as old as the mean",
		"garbage_collection_threshold:0.5,per_process_memory_fraction:1", 120,
		"a=20 b=30 -a c=25 -b z=34", "a:0 b:20480 c:51200 z:77824", 90},
	{"no collection below the threshold", "garbage_collection_threshold:0.9,per_process_memory_fraction:1", 100,
		"a=20 b=30 -a -b z=34", "a:0 b:20480 z:51200", 84},
	{"no collection without a fraction", "garbage_collection_threshold:0.1", 100, "a=20 b=30 -a -b z=34",
		"a:0 b:20480 z:51200", 84},

	{"record_stream: not reused before the other stream is done", "", 0, "a=4 a>1 -a b=4", "a:0 b:4096", 20},
	{"record_stream: reused after", "", 0, "a=4 a>1 -a sync1 b=4", "a:0 b:0", 20},
	{"record_stream: every stream counts", "", 0, "a=4 a>1 a>2 -a sync1 b=4 sync2 c=4", "a:0 b:4096 c:0", 20},
	{"record_stream: the own stream does not", "", 0, "a=4 a>0 -a b=4", "a:0 b:0", 20},
	{"record_stream: a later use waits for a later event", "", 0, "a=4 b=4 a>1 -a sync1 b>1 -b c=4 d=4",
		"a:0 b:4096 c:0 d:8192", 20},
	{"record_stream: waiting blocks do not merge", "", 0, "a=4 b=4 c=12 a>1 -a -b d=8", "a:0 b:4096 c:8192 d:20480", 40},
	{"record_stream: a retry waits", "", 30, "a=20 a>1 -a b=24", "a:0 b:0", 24},

	{"large_segment_size", "large_segment_size_mb:12", 0, "a=2 b=9 c=9", "a:0 b:2048 c:12288", 24},

	{"expandable: one range of addresses grows", "expandable_segments:True", 80, "a=18 b=30 c=18", "a:0 b:18432 c:49152",
		80},
	{"expandable: pages of 2 MiB in the small pool", "expandable_segments:True", 80, "a=512k b=1024k c=1024k",
		"a:0 b:512 c:1536", 4},
	{"expandable: any remainder is split", "expandable_segments:True", 80, "a=19 b=20", "a:0 b:19456", 40},
	{"expandable: holes before the end", "expandable_segments:True", 80, "a=10 b=10 c=10 -a d=8",
		"a:0 b:10240 c:20480 d:0", 40},
	{"expandable: the free end grows", "expandable_segments:True", 80, "a=10 b=4 -b c=28", "a:0 b:10240 c:10240", 40},
	{"expandable: free pages move to where they are needed", "expandable_segments:True", 80, "a=40 b=20 -a c=60",
		"a:0 b:40960 c:102400", 80},
	{"expandable: pages freed in front serve the end", "expandable_segments:True", 80, "a=20 b=40 -a c=30",
		"a:0 b:20480 c:61440", 80},
	{"expandable: empty gives everything back", "expandable_segments:True", 80, "a=40 -a empty b=4", "a:0 b:0", 20},
	{"expandable: large pages of large_segment_size", "expandable_segments:True,large_segment_size_mb:12", 80, "a=13",
		"a:0", 24},
}

// The rules that public recordings do not exercise, one by one. Addresses are in KiB; the device starts at 0.
func TestPolicy(t *testing.T) {
	for _, c := range policyScripts {
		got, a := script(t, c.conf, c.total, c.ops)
		if reserved := a.Stats().Reserved; got != c.want || reserved != c.reserved*mib {
			t.Errorf("%s:\n got %s, %d MiB reserved\nwant %s, %d MiB reserved", c.name, got, reserved/mib, c.want, c.reserved)
		}
	}
}

// What a request is refused or released for: its segment, not its size, counts against the fraction; a lone cached
// segment is as old as the mean and is collected; and the small pool is emptied too before memory runs out.
func TestLimitsOfMemory(t *testing.T) {
	for _, c := range []struct {
		conf, text   string
		total        int64
		oom          bool
		reservedMiBs int64
	}{
		{"per_process_memory_fraction:0.5", "a=1500k", 20, true, 0},
		{"per_process_memory_fraction:1", "a=1500k", 20, false, 20},
		{"garbage_collection_threshold:0.25,per_process_memory_fraction:1", "a=60 -a b=70", 200, false, 70},
		{"garbage_collection_threshold:0.75,per_process_memory_fraction:1", "a=60 -a b=70", 200, false, 130},
		{"", "a=1k -a b=23", 24, false, 24},
	} {
		out, a := script(t, c.conf, c.total, c.text)
		if got := a.Stats().Reserved; strings.Contains(out, "oom") != c.oom || got != c.reservedMiBs*mib {
			t.Errorf("%q, %s on %d MiB: %s, %d MiB reserved, want %d", c.conf, c.text, c.total, out, got/mib, c.reservedMiBs)
		}
	}
}
