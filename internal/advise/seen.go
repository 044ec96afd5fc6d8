package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/replay"
)

// Seen is what the replay of one sample showed, by pool: all that Make takes of a sample, so that its steps may be
// forgotten, and samples replayed elsewhere.
type Seen map[string]Need

// Need is what a sample asked of one pool.
type Need struct {
	LowerBound int64 `json:"lower_bound_bytes"`
	// Reserved is the most that each of the policies reserved, Starved the fragmentation at each of its growths for want
	// of a hole; both in the order of the policies.
	Reserved []int64     `json:"reserved_bytes"`
	Starved  [][]float64 `json:"starved"`
}

// Check refuses what See would not have made.
func (s Seen) Check() error {
	for name, n := range s {
		if len(n.Reserved) != len(candidates) || len(n.Starved) != len(candidates) || n.LowerBound < 0 {
			return fmt.Errorf("pool %s: want a lower bound and figures of %d policies", name, len(candidates))
		}
		for _, reserved := range n.Reserved {
			if reserved < n.LowerBound {
				return fmt.Errorf("pool %s: a policy reserved %d bytes, less than the lower bound %d", name, reserved, n.LowerBound)
			}
		}
	}
	return nil
}

// Policies are those that each pool is replayed through.
type Policies map[string][]string

// Candidates are those that a configuration chooses from.
func Candidates() Policies {
	return Policies{"general": candidates, "vision_features": candidates, "text_embeddings": candidates}
}

// See replays a sample through the policies of each pool.
func See(d Demand, under Policies) (Seen, error) {
	seen := Seen{}
	for name, policies := range under {
		if d[name] == nil {
			continue
		}
		need, err := needOf(d[name], policies)
		if err != nil {
			return nil, fmt.Errorf("replaying pool %s: %w", name, err)
		}
		seen[name] = need
	}
	return seen, nil
}

func needOf(p *replay.Program, policies []string) (Need, error) {
	n := Need{LowerBound: p.LowerBound}
	folded := p.Fold()
	for _, policy := range policies {
		peak, list, err := survey(folded, policy)
		if err != nil {
			return Need{}, err
		}
		n.Reserved, n.Starved = append(n.Reserved, peak), append(n.Starved, list)
	}
	return n, nil
}

// survey is the most that a policy reserved over a program, and the external fragmentation before each step at which it
// grew although it had free bytes enough. A policy that gives back elsewhere what it commits did not grow.
func survey(p replay.Folded, policy string) (peak int64, starved []float64, err error) {
	open := func() (alloc.Allocator, error) {
		return alloc.New(policy, alloc.Options{Capacity: 1 << 42, Alone: true})
	}
	a, err := open()
	if err != nil {
		return 0, nil, err
	}
	defer a.Close()
	peak, grown, err := p.Growth(a)
	if err != nil {
		return 0, nil, err
	}
	again, err := open()
	if err != nil {
		return 0, nil, err
	}
	defer again.Close()
	return peak, starved, p.Before(again, grown, func(i int) {
		if s := again.Stats(); s.Free >= p.Steps[i].Size {
			starved = append(starved, 1-float64(s.LargestFree)/float64(s.Free))
		}
	})
}

// live is the largest sum of requested bytes of the named pools, each at its own peak.
func (s Seen) live(pools ...string) (sum int64) {
	for _, name := range pools {
		sum += s[name].LowerBound
	}
	return sum
}

// unsampled is the inputs without samples.
func (in *Inputs) unsampled() Inputs {
	alone := *in
	alone.Seen = nil
	return alone
}
