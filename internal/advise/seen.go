package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/replay"
)

// Seen is what the replay of one sample showed, by pool: all that Make takes of a sample, so that samples may be
// replayed elsewhere.
type Seen map[string]Need

// Need is what a sample asked of one pool.
type Need struct {
	LowerBound int64 `json:"lower_bound_bytes"`
	// Reserved is the most that each of the candidates for the pool's policy reserved, Starved the fragmentation at
	// each of its growths for want of a hole; both in the order of the candidates.
	Reserved []int64     `json:"reserved_bytes"`
	Starved  [][]float64 `json:"starved"`
}

// Check refuses what See would not have made.
func (s Seen) Check() error {
	for name, n := range s {
		if len(n.Reserved) != len(candidates) || len(n.Starved) != len(candidates) || n.LowerBound < 0 {
			return fmt.Errorf("pool %s: want a lower bound and figures of %d policies", name, len(candidates))
		}
	}
	return nil
}

// See replays a sample through every candidate.
func See(d Demand) (Seen, error) {
	seen := Seen{}
	for name, p := range d {
		if p == nil {
			continue
		}
		n := Need{LowerBound: p.LowerBound}
		var err error
		if n.Reserved, err = peaks(p, candidates...); err != nil {
			return nil, err
		}
		for _, c := range candidates {
			list, err := starved(p, c)
			if err != nil {
				return nil, err
			}
			n.Starved = append(n.Starved, list)
		}
		seen[name] = n
	}
	return seen, nil
}

// live is the largest sum of requested bytes of the named pools, each at its own peak.
func (s Seen) live(pools ...string) (sum int64) {
	for _, name := range pools {
		sum += s[name].LowerBound
	}
	return sum
}

// seeds is how many samples there are, wherever they were replayed.
func (in *Inputs) seeds() int { return len(in.Samples) + len(in.Seen) }

// unsampled is the inputs without samples.
func (in *Inputs) unsampled() Inputs {
	alone := *in
	alone.Samples, alone.Seen = nil, nil
	return alone
}

// sampled is what one sample asks of a pool; starved is asked of the policy that was chosen, by its place among the
// candidates.
type sampled struct {
	lower    int64
	reserved []int64
	starved  func(candidate int) ([]float64, error)
}

func sampledFrom(p *replay.Program) (sampled, error) {
	reserved, err := peaks(p, candidates...)
	return sampled{p.LowerBound, reserved, func(i int) ([]float64, error) { return starved(p, candidates[i]) }}, err
}

// sampled is what the samples ask of a pool, in the order of their seeds.
func (in *Inputs) sampled(pool string) (list []sampled, err error) {
	for _, d := range in.Samples {
		if p := d[pool]; p != nil {
			s, err := sampledFrom(p)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	}
	for _, seen := range in.Seen {
		if n, ok := seen[pool]; ok {
			list = append(list, sampled{n.LowerBound, n.Reserved, func(i int) ([]float64, error) { return n.Starved[i], nil }})
		}
	}
	return list, nil
}
