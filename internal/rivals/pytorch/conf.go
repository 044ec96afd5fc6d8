package pytorch

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	mib = int64(1) << 20

	unlimited = math.MaxInt64
)

// Config is what PYTORCH_ALLOC_CONF says about placement, in bytes. DefaultConfig is PyTorch's own.
type Config struct {
	Expandable          bool
	MaxSplitSize        int64 // blocks of this size and above are not split; unlimited by default
	MaxNonSplitRounding int64 // how much larger than the request an unsplit block may be, from MaxSplitSize on
	LargeSegmentSize    int64 // segments for requests between 1 MiB and 10 MiB; pages of expandable segments
	// GCThreshold is the share of the allowed memory above which cached segments are collected; 0 for never. It acts only
	// together with MemoryFraction, as in PyTorch.
	GCThreshold    float64
	MemoryFraction float64   // of the device's memory that may be taken; 0 where not set
	Roundup        [16]int64 // divisions of a power of two for sizes from 1 MiB, 2 MiB, … 32 GiB on; 0 and 1 for none
}

// DefaultConfig is the configuration of an empty PYTORCH_ALLOC_CONF.
func DefaultConfig() Config {
	return Config{MaxSplitSize: unlimited, MaxNonSplitRounding: 20 * mib, LargeSegmentSize: 20 * mib}
}

// ParseConf reads PYTORCH_ALLOC_CONF: keys and values, key:value, joined by commas, with [size:divisions,…] for
// roundup_power2_divisions. Blanks count for nothing. The last value of a key counts, but each one is checked:
// large_segment_size_mb, wherever it stands, is the floor of max_split_size_mb and of max_non_split_rounding_mb. What
// it takes and refuses is what the parser of 2.15.0 does, with two exceptions that never help a user: it refuses
// numbers with a sign or trailing letters. Keys that do not bear on placement are checked and otherwise passed over;
// the cudaMallocAsync backend is refused, since its policy is the driver's.
func ParseConf(s string) (Config, error) {
	p := confParser{tokens: confTokens(s), out: DefaultConfig()}
	for p.at < len(p.tokens) {
		if err := p.setting(); err != nil {
			return Config{}, fmt.Errorf("PYTORCH_ALLOC_CONF %q: %w", s, err)
		}
	}
	for _, f := range p.floored {
		if f.bytes < p.out.LargeSegmentSize {
			return Config{}, fmt.Errorf("PYTORCH_ALLOC_CONF %q: %s: want at least large_segment_size_mb, %d", s, f.key,
				p.out.LargeSegmentSize/mib)
		}
	}
	return p.out, nil
}

// String is the PYTORCH_ALLOC_CONF that ParseConf reads as c; "" for the default one.
func (c Config) String() string {
	var keys []string
	add := func(format string, value any) { keys = append(keys, fmt.Sprintf(format, value)) }
	d := DefaultConfig()
	if c.Expandable {
		add("expandable_segments:%s", "True")
	}
	if c.LargeSegmentSize != d.LargeSegmentSize {
		add("large_segment_size_mb:%d", c.LargeSegmentSize/mib)
	}
	if c.MaxSplitSize != unlimited {
		add("max_split_size_mb:%d", c.MaxSplitSize/mib)
	}
	if c.MaxNonSplitRounding != d.MaxNonSplitRounding {
		add("max_non_split_rounding_mb:%d", c.MaxNonSplitRounding/mib)
	}
	if c.GCThreshold > 0 {
		add("garbage_collection_threshold:%v", c.GCThreshold)
	}
	if c.MemoryFraction > 0 {
		add("per_process_memory_fraction:%v", c.MemoryFraction)
	}
	if c.Roundup != d.Roundup {
		var sizes []string
		for i, n := range c.Roundup {
			sizes = append(sizes, fmt.Sprintf("%d:%d", int64(1)<<i, n))
		}
		add("roundup_power2_divisions:[%s]", strings.Join(sizes, ","))
	}
	return strings.Join(keys, ",")
}

// confTokens cuts at , : [ and ], which are tokens too.
func confTokens(s string) []string {
	var tokens []string
	word := ""
	flush := func() {
		if word != "" {
			tokens, word = append(tokens, word), ""
		}
	}
	for _, c := range s {
		switch c {
		case ',', ':', '[', ']':
			flush()
			tokens = append(tokens, string(c))
		case ' ':
		default:
			word += string(c)
		}
	}
	flush()
	return tokens
}

type confParser struct {
	tokens  []string
	at      int
	out     Config
	floored []floored
}

// floored is a value that large_segment_size_mb, which may follow it, is the floor of.
type floored struct {
	key   string
	bytes int64
}

// aboveSegments reads a size that large_segment_size_mb is the floor of.
func (p *confParser) aboveSegments(key string) (int64, error) {
	n, err := p.megabytes(1)
	p.floored = append(p.floored, floored{key, n})
	return n, err
}

func (p *confParser) next() string {
	if p.at == len(p.tokens) {
		return ""
	}
	p.at++
	return p.tokens[p.at-1]
}

func (p *confParser) expect(token string) error {
	if got := p.next(); got != token {
		return fmt.Errorf("want %q, got %q", token, got)
	}
	return nil
}

// confKeys lists the keys in the order of PyTorch's documentation.
var confKeys = []string{"backend", "max_split_size_mb", "max_non_split_rounding_mb", "large_segment_size_mb",
	"roundup_power2_divisions",
	"garbage_collection_threshold", "expandable_segments", "per_process_memory_fraction", "release_lock_on_cudamalloc",
	"throw_on_cudamalloc_oom", "graph_capture_record_stream_reuse", "expandable_segments_reserve",
	"expandable_segments_reserve_by_class",
	"pinned_use_background_threads", "pinned_use_cuda_host_register", "pinned_num_register_threads",
	"pinned_reserve_segment_size_mb",
	"pinned_max_round_threshold_mb", "pinned_max_cached_size_mb", "pinned_free_catch_all",
	"release_lock_on_hipmalloc", "pinned_use_hip_host_register"} // ROCm's names, which every build takes

func (p *confParser) setting() error {
	key := p.next()
	if !slices.Contains(confKeys, key) {
		return fmt.Errorf("unknown key %q: want one of %s", key, strings.Join(confKeys, ", "))
	}
	err := p.expect(":")
	if err == nil {
		err = p.value(key)
	}
	if err == nil && p.at < len(p.tokens) {
		err = p.expect(",")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (p *confParser) value(key string) (err error) {
	c := &p.out
	switch key {
	case "backend":
		if name := p.next(); name == "cudaMallocAsync" {
			err = fmt.Errorf("cudaMallocAsync leaves placement to the driver and is not modelled")
		} else if name != "native" {
			err = fmt.Errorf("%q: want native", name)
		}
	case "max_split_size_mb":
		c.MaxSplitSize, err = p.aboveSegments(key)
	case "max_non_split_rounding_mb":
		c.MaxNonSplitRounding, err = p.aboveSegments(key)
	case "large_segment_size_mb":
		c.LargeSegmentSize, err = p.megabytes(11)
	case "roundup_power2_divisions":
		err = p.roundup()
	case "garbage_collection_threshold":
		c.GCThreshold, err = p.fraction(false)
	case "expandable_segments":
		c.Expandable, err = p.bool()
	case "per_process_memory_fraction":
		c.MemoryFraction, err = p.fraction(true)
	default:
		err = p.other(key)
	}
	return err
}

// other checks the values of keys that do not bear on placement.
func (p *confParser) other(key string) (err error) {
	switch key {
	case "expandable_segments_reserve":
		if v := p.next(); v == "" || strings.ContainsAny(v, ",:[]") {
			err = fmt.Errorf("%q: want a fraction or a size such as 40G", v)
		}
	case "expandable_segments_reserve_by_class":
		err = p.list(func(string) error { p.next(); return nil })
	case "pinned_num_register_threads":
		var n int64
		if n, err = p.number(); err == nil && (n < 1 || n > 128 || bits.OnesCount64(uint64(n)) != 1) {
			err = fmt.Errorf("%d: want a power of two up to 128", n)
		}
	case "pinned_reserve_segment_size_mb":
		_, err = p.megabytes(1)
	case "pinned_max_round_threshold_mb", "pinned_max_cached_size_mb":
		_, err = p.megabytes(0)
	default:
		_, err = p.bool()
	}
	return err
}

func (p *confParser) bool() (bool, error) {
	switch v := p.next(); v {
	case "True", "False":
		return v == "True", nil
	default:
		return false, fmt.Errorf("%q: want exactly True or False", v)
	}
}

func (p *confParser) number() (int64, error) {
	v := p.next()
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q: want a whole number that is not negative", v)
	}
	return n, nil
}

// megabytes reads a number of MiB, at least atLeast of them; what does not fit counts as unlimited.
func (p *confParser) megabytes(atLeast int64) (int64, error) {
	n, err := p.number()
	switch {
	case err != nil:
		return 0, err
	case n < atLeast:
		return 0, fmt.Errorf("%d: want at least %d", n, atLeast)
	case n > unlimited/mib:
		return unlimited, nil
	}
	return n * mib, nil
}

// fraction reads a number between 0 and 1; the ends belong to it where closed.
func (p *confParser) fraction(closed bool) (float64, error) {
	v := p.next()
	f, err := strconv.ParseFloat(v, 64)
	switch {
	case err != nil, closed && !(f >= 0 && f <= 1):
		return 0, fmt.Errorf("%q: want a number from 0 to 1", v)
	case !closed && !(f > 0 && f < 1):
		return 0, fmt.Errorf("%q: want a number above 0 and below 1", v)
	}
	return f, nil
}

// list reads [name:value,…]; body stands before each value.
func (p *confParser) list(body func(name string) error) error {
	if err := p.expect("["); err != nil {
		return err
	}
	for {
		name := p.next()
		if name == "]" {
			return nil
		}
		err := p.expect(":")
		if err == nil {
			err = body(name)
		}
		if err != nil {
			return err
		}
		switch sep := p.next(); sep {
		case ",":
		case "]":
			return nil
		default:
			return fmt.Errorf("want , or ] in the list, got %q", sep)
		}
	}
}

// roundup reads one number of divisions for all sizes, or [256:1,512:2,>:8]: divisions for the interval of each size in
// MiB, the first also for what is below it, and > for what is above the last.
func (p *confParser) roundup() error {
	table := &p.out.Roundup
	if p.at < len(p.tokens) && p.tokens[p.at] != "[" {
		n, err := p.divisions()
		if err == nil && n == 0 {
			err = fmt.Errorf("0 divisions: want a power of two; 1 is none, and 0 stands in a list alone")
		}
		for i := range table {
			table[i] = n
		}
		return err
	}
	last := -1
	return p.list(func(size string) error {
		n, err := p.divisions()
		if err != nil {
			return err
		}
		if size == ">" {
			for i := last + 1; i < len(table); i++ {
				table[i] = n
			}
			return nil
		}
		mb, err := strconv.ParseUint(size, 10, 63)
		if err != nil || bits.OnesCount64(mb) != 1 {
			return fmt.Errorf("%q: want a power of two in MiB, or >", size)
		}
		i := min(bits.Len64(mb)-1, len(table)-1)
		for k := 0; last < 0 && k < i; k++ {
			table[k] = n
		}
		table[i], last = n, i
		return nil
	})
}

func (p *confParser) divisions() (int64, error) {
	n, err := p.number()
	if err == nil && bits.OnesCount64(uint64(n)) > 1 {
		err = fmt.Errorf("%d divisions: want a power of two, or 0 for none", n)
	}
	return n, err
}

// BlockSize is the size of the block that serves a request of n bytes, without the tail that a block of the large pool
// may keep.
func (c *Config) BlockSize(n int64) int64 { return c.round(min(n, maxRequest)) }

// round is the size of the block that serves a request of n bytes.
func (c *Config) round(n int64) int64 {
	if n < minBlock {
		return minBlock
	}
	if d := c.divisions(n); d > 1 && n > minBlock*d {
		return nextDivision(n, d)
	}
	return (n + minBlock - 1) / minBlock * minBlock
}

func (c *Config) divisions(n int64) int64 {
	i := bits.Len64(uint64(n)) - 1 - 20
	return c.Roundup[min(max(i, 0), len(c.Roundup)-1)]
}

// nextDivision rounds n up to a multiple of one d-th of the power of two below it.
func nextDivision(n, d int64) int64 {
	floor := int64(1) << (bits.Len64(uint64(n)) - 1)
	if n == floor {
		return n
	}
	step := floor >> (bits.Len64(uint64(d)) - 1)
	if step == 0 {
		return 2 * floor
	}
	return (n + step - 1) / step * step
}

// segmentSize is what a miss takes from the driver for a block of n bytes.
func (c *Config) segmentSize(n int64) int64 {
	switch {
	case n <= smallLimit:
		return smallSegment
	case n < largeLimit:
		return c.LargeSegmentSize
	}
	return (n + largeStep - 1) / largeStep * largeStep
}

// SmallPage is the size in which expandable segments of the small pool take and give back memory.
const SmallPage = smallSegment

// LargePage is that size of the large pool.
func (c *Config) LargePage() int64 { return c.LargeSegmentSize }
