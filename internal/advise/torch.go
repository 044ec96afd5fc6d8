package advise

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// TorchSetting is a PYTORCH_ALLOC_CONF and how PyTorch's allocator fares under it, by trace and together.
type TorchSetting struct {
	Conf     string        `yaml:"conf" json:"conf"` // "" is the default
	Reserved units.Bytes   `yaml:"reserved_bytes" json:"reserved_bytes"`
	Each     []units.Bytes `yaml:"each_bytes" json:"each_bytes"`
	// Refused is how many requests the card refuses, EachRefused by trace: those that the recorded card refused too, and
	// where another is refused first, all of them and that one.
	Refused     int   `yaml:"refused" json:"refused"`
	EachRefused []int `yaml:"each_refused" json:"each_refused"`
}

// TorchTrial is how a choice fares on a part of the program that had no say in it.
type TorchTrial struct {
	Part    string      `yaml:"part" json:"part"`
	Conf    string      `yaml:"conf" json:"conf"` // chosen on the rest
	Chosen  units.Bytes `yaml:"reserved_bytes" json:"reserved_bytes"`
	Default units.Bytes `yaml:"default_bytes" json:"default_bytes"`
	Best    units.Bytes `yaml:"best_bytes" json:"best_bytes"` // of the grid, had it been known
}

// TorchChoice is the settings tried, the best first, and how far the best may be trusted.
type TorchChoice struct {
	Best    TorchSetting `yaml:"best" json:"best"`
	Default TorchSetting `yaml:"default" json:"default"`
	// what the recording ran under, where it was not the default
	Recorded   *TorchSetting  `yaml:"recorded,omitempty" json:"recorded,omitempty"`
	LowerBound units.Bytes    `yaml:"lower_bound_bytes" json:"lower_bound_bytes"`
	Cards      []TorchCard    `yaml:"cards" json:"cards"`
	HeldOut    []TorchTrial   `yaml:"held_out" json:"held_out"`
	Tried      []TorchSetting `yaml:"tried" json:"tried"`
}

// TorchCard is what a trace's card can give, and what it refused.
type TorchCard struct {
	Name     string      `yaml:"name" json:"name"`
	Capacity units.Bytes `yaml:"capacity_bytes" json:"capacity_bytes"` // 0 where it is not known: nothing is refused then
	Asked    units.Bytes `yaml:"asked_bytes" json:"asked_bytes"`       // the largest request that was refused
	Live     units.Bytes `yaml:"live_bytes" json:"live_bytes"`         // requested and live then
	Requests int         `yaml:"refused" json:"refused"`               // how many were refused when it was recorded
}

// Short is by how much a card's largest refused request exceeds it with what lived then: no setting can help.
func (c *TorchCard) Short() units.Bytes {
	if c.Capacity == 0 {
		return 0
	}
	return max(0, c.Live+c.Asked-c.Capacity)
}

// Helps reports whether some setting refuses less than the default, or as little and reserves less.
func (c *TorchChoice) Helps() bool {
	return c.Best.Refused < c.Default.Refused || c.Best.Refused == c.Default.Refused &&
		c.Best.Reserved < c.Default.Reserved
}

// Confidence is the share of held-out parts on which the setting chosen without them reserves no more than the default.
func (c *TorchChoice) Confidence() (agree, of int) {
	for _, h := range c.HeldOut {
		if h.Chosen <= h.Default {
			agree++
		}
	}
	return agree, len(c.HeldOut)
}

// torchGrid is the settings to try that a release takes, the simplest first: it wins where two fare alike.
// garbage_collection_threshold is not among them: it acts in processes with a limit of their own only
// (set_per_process_memory_fraction).
func torchGrid(release pytorch.Release) []string {
	grid := []string{""}
	expandable := release.Takes("expandable_segments")
	if expandable {
		grid = append(grid, "expandable_segments:True")
	}
	var splits, rounds []string
	for _, mb := range []int{20, 32, 64, 128, 256, 512, 1024} {
		splits = append(splits, fmt.Sprintf("max_split_size_mb:%d", mb))
	}
	for _, n := range []int{2, 4, 8, 16, 32} {
		rounds = append(rounds, fmt.Sprintf("roundup_power2_divisions:%d", n))
	}
	grid = append(append(grid, splits...), rounds...)
	for _, mb := range []int{12, 32, 64} {
		if release.Takes("large_segment_size_mb") {
			grid = append(grid, fmt.Sprintf("large_segment_size_mb:%d", mb),
				fmt.Sprintf("expandable_segments:True,large_segment_size_mb:%d", mb))
		}
	}
	for _, r := range rounds {
		if expandable {
			grid = append(grid, "expandable_segments:True,"+r)
		}
		for _, s := range splits {
			grid = append(grid, s+","+r)
		}
	}
	return grid
}

// TorchOptions are what settings are chosen for.
type TorchOptions struct {
	Recorded string          // the setting that the traces were recorded under
	Memory   units.Bytes     // of each card; 0 takes what refused requests show, and no limit without any
	Devices  []int           // cards whose recordings count, by number; none for all
	Release  pytorch.Release // whose settings may be used; zero for one that is not known
	Progress func(done, of int)
}

// TuneTorch replays traces, one for each card or run, under a grid of settings, each on a card of its capacity. The
// best refuses least, and of those that refuse as little reserves least in all and on no trace more than the default.
// Held out are each trace in turn where there are several, else the second half of the one.
func TuneTorch(traces []*trace.Trace, o TorchOptions) (TorchChoice, error) {
	if len(traces) == 0 {
		return TorchChoice{}, errors.New("tuning PyTorch's allocator: no trace")
	}
	grid := torchGrid(o.Release)
	parts := halves(traces)
	runs := slices.Concat(traces, parts)
	capacities := make([]int64, len(runs))
	for i := range runs {
		capacities[i] = capacityOf(traces[min(i, len(traces)-1)], o) // parts are of the only trace
	}
	all, err := tryGrid(grid, runs, capacities, o.Progress)
	if err != nil {
		return TorchChoice{}, err
	}
	whole := sequence(0, len(traces))
	best := bestOf(all, whole)
	c := TorchChoice{Best: all[best].over(whole), Default: all[0].over(whole)}
	for _, s := range all {
		c.Tried = append(c.Tried, s.over(whole))
	}
	slices.SortStableFunc(c.Tried, func(a, b TorchSetting) int {
		return cmp.Or(cmp.Compare(a.Refused, b.Refused), cmp.Compare(a.Reserved, b.Reserved))
	})
	for i, t := range traces {
		p, err := replay.Compile(t)
		if err != nil {
			return TorchChoice{}, err
		}
		c.LowerBound += units.Bytes(p.LowerBound)
		c.Cards = append(c.Cards, cardOf(t, capacities[i]))
	}
	if o.Recorded != "" {
		again, err := tryGrid([]string{o.Recorded}, traces, capacities, nil)
		if err != nil {
			return TorchChoice{}, fmt.Errorf("replaying the recorded setting: %w", err)
		}
		c.Recorded = &again[0]
	}
	c.HeldOut = heldOut(all, traces, len(parts) > 0)
	return c, nil
}

// capacityOf is what the card of a trace can give: what is stated, else the most that a refused request shows.
func capacityOf(t *trace.Trace, o TorchOptions) int64 {
	if o.Memory > 0 {
		return int64(o.Memory)
	}
	recorded, err := pytorch.ParseConf(o.Recorded)
	if err != nil {
		recorded = pytorch.DefaultConfig()
	}
	most := int64(0)
	for i := range t.Refused {
		bytes, _ := recorded.Capacity(&t.Refused[i])
		most = max(most, bytes)
	}
	return most
}

// cardOf finds the largest request that was refused, and what lived then.
func cardOf(t *trace.Trace, capacity int64) TorchCard {
	c := TorchCard{Name: t.Name, Capacity: units.Bytes(capacity), Requests: len(t.Refused)}
	live, next := units.Bytes(0), 0
	upTo := func(event int) {
		for ; next < len(t.Refused) && t.Refused[next].Before <= event; next++ {
			if asked := units.Bytes(t.Refused[next].Size); asked+live > c.Asked+c.Live {
				c.Asked, c.Live = asked, live
			}
		}
	}
	for i, o := range t.Operations() {
		upTo(i)
		live = units.Bytes(o.Live)
	}
	upTo(len(t.Events))
	return c
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
		out.EachRefused = append(out.EachRefused, s.EachRefused[i])
		out.Refused += s.EachRefused[i]
	}
	return out
}

// worse reports whether s fares worse than the default on trace i: no sum over cards decides for one of them.
func (s *TorchSetting) worse(than *TorchSetting, i int) bool {
	return s.EachRefused[i] > than.EachRefused[i] ||
		s.EachRefused[i] == than.EachRefused[i] && s.Each[i] > than.Each[i]
}

// bestOf is the setting that refuses least over the traces, then reserves least, and fares nowhere worse than the
// default, which is the first.
func bestOf(all []TorchSetting, which []int) int {
	best, least := 0, all[0].over(which)
	for i := range all {
		s := all[i].over(which)
		if slices.ContainsFunc(which, func(k int) bool { return all[i].worse(&all[0], k) }) {
			continue
		}
		if s.Refused < least.Refused || s.Refused == least.Refused && s.Reserved < least.Reserved {
			best, least = i, s
		}
	}
	return best
}

func tryGrid(grid []string, traces []*trace.Trace, capacities []int64,
	progress func(done, of int)) ([]TorchSetting, error) {
	var list []TorchSetting
	for i, conf := range grid {
		cfg, err := pytorch.ParseConf(conf)
		if err != nil {
			return nil, err
		}
		s := TorchSetting{Conf: conf}
		for k, t := range traces {
			got, err := pytorch.Try(t, cfg, capacities[k])
			if err != nil {
				return nil, fmt.Errorf("replaying %s under %q: %w", t.Name, conf, err)
			}
			s.add(&got)
		}
		if list = append(list, s); progress != nil {
			progress(i+1, len(grid))
		}
	}
	return list, nil
}

// add takes in how one more trace fared.
func (s *TorchSetting) add(got *pytorch.Outcome) {
	refused := 0
	for _, served := range got.Served {
		if !served {
			refused++
		}
	}
	if got.Failed >= 0 {
		refused++
	}
	s.Each, s.EachRefused = append(s.Each, units.Bytes(got.PeakReserved)), append(s.EachRefused, refused)
	s.Reserved += units.Bytes(got.PeakReserved)
	s.Refused += refused
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
	for _, l := range t.Lifetimes() {
		if l.Begin < middle && l.End >= middle {
			second.Events = append(second.Events, t.Events[l.Begin])
		}
	}
	moved := len(second.Events) - middle
	second.Events = append(second.Events, t.Events[middle:]...)
	first.Refused, second.Refused = nil, nil
	for _, r := range t.Refused {
		if r.Before <= middle {
			first.Refused = append(first.Refused, r)
		} else {
			r.Before += moved
			second.Refused = append(second.Refused, r)
		}
	}
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
