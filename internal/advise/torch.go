package advise

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// TorchSetting is a PYTORCH_ALLOC_CONF and what PyTorch's allocator reserves under it, by trace and together.
type TorchSetting struct {
	Conf     string        `yaml:"conf" json:"conf"` // "" is the default
	Reserved units.Bytes   `yaml:"reserved_bytes" json:"reserved_bytes"`
	Each     []units.Bytes `yaml:"each_bytes" json:"each_bytes"`
}

// TorchTrial is how a choice fares on a part of the program that had no say in it.
type TorchTrial struct {
	Part    string      `yaml:"part" json:"part"`
	Conf    string      `yaml:"conf" json:"conf"` // chosen on the rest
	Chosen  units.Bytes `yaml:"reserved_bytes" json:"reserved_bytes"`
	Default units.Bytes `yaml:"default_bytes" json:"default_bytes"`
	Best    units.Bytes `yaml:"best_bytes" json:"best_bytes"` // of the grid, had it been known
}

// TorchChoice is the settings tried, by what they reserve, and how far the best may be trusted.
type TorchChoice struct {
	Best    TorchSetting `yaml:"best" json:"best"`
	Default TorchSetting `yaml:"default" json:"default"`
	// what the recording ran under, where it was not the default
	Recorded   *TorchSetting  `yaml:"recorded,omitempty" json:"recorded,omitempty"`
	LowerBound units.Bytes    `yaml:"lower_bound_bytes" json:"lower_bound_bytes"`
	HeldOut    []TorchTrial   `yaml:"held_out" json:"held_out"`
	Tried      []TorchSetting `yaml:"tried" json:"tried"`
}

// Helps reports whether some setting reserves less than the default.
func (c *TorchChoice) Helps() bool { return c.Best.Reserved < c.Default.Reserved }

// Confidence is the share of held-out parts on which the setting chosen without them reserves no more than the default.
func (c *TorchChoice) Confidence() (agree, of int) {
	for _, h := range c.HeldOut {
		if h.Chosen <= h.Default {
			agree++
		}
	}
	return agree, len(c.HeldOut)
}

// newKey is a setting that older releases of PyTorch refuse as unknown.
const newKey = "large_segment_size_mb"

// Older is the best setting for releases that do not know newKey.
func (c *TorchChoice) Older() TorchSetting {
	for _, s := range c.Tried { // by what they reserve
		worse := false
		for i := range s.Each {
			worse = worse || s.Each[i] > c.Default.Each[i]
		}
		if !worse && !strings.Contains(s.Conf, newKey) {
			return s
		}
	}
	return c.Default
}

// torchGrid is the settings to try, the simplest first: it wins where two reserve alike. garbage_collection_threshold
// is not among them: it acts near the end of the card's memory only, and moves no peak that fits.
func torchGrid() []string {
	grid := []string{"", "expandable_segments:True"}
	var splits, rounds []string
	for _, mb := range []int{20, 32, 64, 128, 256, 512, 1024} {
		splits = append(splits, fmt.Sprintf("max_split_size_mb:%d", mb))
	}
	for _, n := range []int{2, 4, 8, 16, 32} {
		rounds = append(rounds, fmt.Sprintf("roundup_power2_divisions:%d", n))
	}
	grid = append(append(grid, splits...), rounds...)
	for _, mb := range []int{12, 32, 64} {
		grid = append(grid, fmt.Sprintf("large_segment_size_mb:%d", mb),
			fmt.Sprintf("expandable_segments:True,large_segment_size_mb:%d", mb))
	}
	for _, r := range rounds {
		grid = append(grid, "expandable_segments:True,"+r)
		for _, s := range splits {
			grid = append(grid, s+","+r)
		}
	}
	return grid
}

// TuneTorch replays traces, one for each device or run, under a grid of settings. The best reserves least in all and on
// no trace more than the default. recorded is the setting that the traces were recorded under. Held out are each trace
// in turn where there are several, else the second half of the one.
func TuneTorch(traces []*trace.Trace, recorded string, progress func(done, of int)) (TorchChoice, error) {
	if len(traces) == 0 {
		return TorchChoice{}, errors.New("tuning PyTorch's allocator: no trace")
	}
	grid := torchGrid()
	parts := halves(traces)
	all, err := tryGrid(grid, slices.Concat(traces, parts), progress)
	if err != nil {
		return TorchChoice{}, err
	}
	n := len(traces)
	whole := sequence(0, n)
	best := bestOf(all, whole)
	c := TorchChoice{Best: all[best].over(whole), Default: all[0].over(whole)}
	for _, s := range all {
		c.Tried = append(c.Tried, s.over(whole))
	}
	slices.SortStableFunc(c.Tried, func(a, b TorchSetting) int { return cmp.Compare(a.Reserved, b.Reserved) })
	for _, t := range traces {
		p, err := replay.Compile(t)
		if err != nil {
			return TorchChoice{}, err
		}
		c.LowerBound += units.Bytes(p.LowerBound)
	}
	if recorded != "" {
		again, err := tryGrid([]string{recorded}, traces, nil)
		if err != nil {
			return TorchChoice{}, fmt.Errorf("replaying the recorded setting: %w", err)
		}
		c.Recorded = &again[0]
	}
	c.HeldOut = heldOut(all, traces, len(parts) > 0)
	return c, nil
}

// heldOut tries, for each part, what the rest would have chosen. With halves there is one trace and its two halves.
func heldOut(all []TorchSetting, traces []*trace.Trace, halved bool) []TorchTrial {
	if halved {
		return []TorchTrial{trial(all, "the second half", []int{1}, 2), trial(all, "the first half", []int{2}, 1)}
	}
	var list []TorchTrial
	for i, t := range traces {
		if rest := slices.DeleteFunc(sequence(0, len(traces)), func(k int) bool { return k == i }); len(rest) > 0 {
			list = append(list, trial(all, t.Name, rest, i))
		}
	}
	return list
}

func trial(all []TorchSetting, part string, rest []int, held int) TorchTrial {
	chosen, best := all[bestOf(all, rest)], all[bestOf(all, []int{held})]
	return TorchTrial{Part: part, Conf: chosen.Conf, Chosen: chosen.Each[held], Default: all[0].Each[held],
		Best: best.Each[held]}
}

// over is the setting's figures on some of the traces.
func (s TorchSetting) over(which []int) TorchSetting {
	out := TorchSetting{Conf: s.Conf}
	for _, i := range which {
		out.Each = append(out.Each, s.Each[i])
		out.Reserved += s.Each[i]
	}
	return out
}

// bestOf is the setting that reserves least over the traces and nowhere more than the default, which is the first.
func bestOf(all []TorchSetting, which []int) int {
	best, least := 0, all[0].over(which)
	for i := range all {
		s := all[i].over(which)
		worse := slices.ContainsFunc(which, func(k int) bool { return all[i].Each[k] > all[0].Each[k] })
		if !worse && s.Reserved < least.Reserved {
			best, least = i, s
		}
	}
	return best
}

func tryGrid(grid []string, traces []*trace.Trace, progress func(done, of int)) ([]TorchSetting, error) {
	var list []TorchSetting
	for i, conf := range grid {
		cfg, err := pytorch.ParseConf(conf)
		if err != nil {
			return nil, err
		}
		s := TorchSetting{Conf: conf}
		for _, t := range traces {
			n, err := torchReserves(t, cfg)
			if err != nil {
				return nil, fmt.Errorf("replaying %s under %q: %w", t.Name, conf, err)
			}
			s.Each = append(s.Each, n)
			s.Reserved += n
		}
		if list = append(list, s); progress != nil {
			progress(i+1, len(grid))
		}
	}
	return list, nil
}

// torchReserves is the most that PyTorch's allocator takes from the driver over a trace, from an empty start. A trace
// that completes its frees is followed there.
func torchReserves(t *trace.Trace, cfg pytorch.Config) (units.Bytes, error) {
	a, err := pytorch.New(cfg, 0)
	if err != nil {
		return 0, err
	}
	defer a.Close()
	frees := trace.OpFree
	if t.Deferred() {
		frees = trace.OpFreeCompleted
	}
	blocks := make([]alloc.Block, t.Slots)
	for i, e := range t.Events {
		switch e.Op {
		case trace.OpAlloc:
			blocks[e.Slot], err = a.Alloc(alloc.Request{Size: e.Size, Stream: e.Stream})
		case frees:
			err = a.Free(blocks[e.Slot])
		}
		if err != nil {
			return 0, fmt.Errorf("event %d: %w", i, err)
		}
	}
	return units.Bytes(a.Stats().PeakReserved), nil
}

// halves cuts a lone trace in the middle; the second half begins by allocating what is live there. Several traces are
// not cut.
func halves(traces []*trace.Trace) []*trace.Trace {
	if len(traces) != 1 || len(traces[0].Events) < 4 {
		return nil
	}
	t := traces[0]
	first, second := *t, *t
	middle := len(t.Events) / 2
	first.Events, second.Events = t.Events[:middle], nil
	frees := trace.OpFree
	if t.Deferred() {
		frees = trace.OpFreeCompleted
	}
	live := make([]int, t.Slots) // 1 + the event that allocated the block
	for i, e := range first.Events {
		switch e.Op {
		case trace.OpAlloc:
			live[e.Slot] = i + 1
		case frees:
			live[e.Slot] = 0
		}
	}
	for i, e := range first.Events {
		if e.Op == trace.OpAlloc && live[e.Slot] == i+1 {
			second.Events = append(second.Events, e)
		}
	}
	second.Events = append(second.Events, t.Events[middle:]...)
	return []*trace.Trace{&first, &second}
}

// sequence is from, from+1, … to−1.
func sequence(from, to int) []int {
	var list []int
	for i := from; i < to; i++ {
		list = append(list, i)
	}
	return list
}
