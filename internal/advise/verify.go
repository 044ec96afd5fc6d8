package advise

import (
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Claim is one thing that a configuration says, beside what was seen. It holds where Seen lies in [Low, High].
type Claim struct {
	What    string  `json:"what"`
	Unit    string  `json:"unit"` // B, B/s, or "" for a share
	Claimed float64 `json:"claimed"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Seen    float64 `json:"seen"`
	How     string  `json:"how"`    // what was done to see it
	Timed   bool    `json:"timed"`  // another program on the machine may have disturbed it
	Absent  bool    `json:"absent"` // it could not be seen here; How says why
}

// Holds reports whether what was seen lies in the interval. What could not be seen is not held against the claim.
func (c Claim) Holds() bool { return c.Absent || c.Low <= c.Seen && c.Seen <= c.High }

// Error is the seen over the claimed, less one.
func (c Claim) Error() float64 {
	if c.Claimed == c.Seen {
		return 0
	}
	return c.Seen/c.Claimed - 1
}

// Verification is every claim that was looked at.
type Verification struct {
	Config   string             `json:"config"`
	Claims   []Claim            `json:"claims"`
	Failed   int                `json:"failed"`
	Timed    int                `json:"timed_failed"` // of Failed, those that another program may have disturbed
	Warnings []evidence.Warning `json:"warnings,omitempty"`

	blind bool // an engine's log was held to it that states no buffer of the decoder
}

// tight is how much larger than the largest need a pool's maximum may be.
const tight = 1.15

// Verify holds a configuration against in: its Model, Limits, Precision and Largest as the configuration says them, its
// Seen of seeds that had no part in the configuration, under the policies that it names. Where the configuration is of
// this machine, its Hardware is what this machine reports and measures now, and machine is true; else the claims about
// it are left out.
func Verify(a Advice, in Inputs, machine bool) (Verification, error) {
	largest, err := in.Largest(in.Limits)
	if err != nil {
		return Verification{}, fmt.Errorf("replaying a request at the limits: %w", err)
	}
	var v Verification
	in.sums(a, &v)
	if err := in.model(a, largest, &v); err != nil {
		return Verification{}, err
	}
	if err := in.pools(a, largest, &v); err != nil {
		return Verification{}, err
	}
	if machine {
		in.present(a, &v)
	}
	for _, c := range v.Claims {
		if !c.Holds() {
			v.Failed++
			if c.Timed {
				v.Timed++
			}
		}
	}
	return v, nil
}

// bytes adds a claim of bytes.
func (v *Verification) bytes(what string, claimed, low, high, seen units.Bytes, how string) {
	v.Claims = append(v.Claims, Claim{What: what, Unit: "B", Claimed: float64(claimed), Low: float64(low),
		High: float64(high), Seen: float64(seen), How: how})
}

// places are the accounts of a configuration by name.
func (a *Advice) places() map[string]*Side {
	list := map[string]*Side{"host": &a.Budget.Host}
	if a.Budget.Device != nil {
		list["device"] = a.Budget.Device
	}
	return list
}

// sums holds every account against its own capacity.
func (in *Inputs) sums(a Advice, v *Verification) {
	for _, name := range []string{"device", "host"} {
		if p := a.places()[name]; p != nil {
			c := p.Capacity.Value
			v.bytes("budget."+name, c, c, c, p.used()+p.Free.Value, "the items and free added up")
		}
	}
}

// model holds what follows from the model against the model, and what was replayed against another replay.
func (in *Inputs) model(a Advice, largest Demand, v *Verification) error {
	if in.Engine != "" {
		return in.servedClaims(a, v)
	}
	if a.Placement != nil && a.Budget.Device != nil {
		a.Placement.held(&a.Budget, nil, v)
	}
	var weights, kv units.Bytes
	for _, p := range a.places() {
		weights, kv = weights+p.Weights.Value, kv+p.KVCache.Value
	}
	for _, p := range Precisions(in.Model) {
		if p.Name == a.Budget.Precision.Value {
			seen := p.VisionBytes + p.FixedBytes + p.LayerBytes*units.Bytes(in.Model.Text.Layers)
			v.bytes("weights", weights, weights, weights, seen, "counted from the model in "+p.Name)
		}
	}
	l := in.weigh(largest, Pools{})
	v.bytes("kv_cache", kv, kv, kv+units.Bytes(in.Model.Text.Layers), l.kv,
		"tokens times the bytes of one; each layer's share is rounded down")
	home := a.Budget.tightest()
	v.bytes("vision", home.Vision.Value, home.Intervals.Vision.Low, home.Intervals.Vision.High, l.vision,
		"a request at the limits, replayed")
	v.bytes("compute", home.Compute.Value, home.Intervals.Compute.Low, home.Intervals.Compute.High, l.compute,
		"a request at the limits, replayed")
	return nil
}

// Replayed are the policies of the configuration that requests are replayed through.
func (a *Advice) Replayed() Policies {
	under := Policies{}
	for _, kind := range []memory.Kind{memory.General, memory.VisionFeatures, memory.TextEmbeddings} {
		policy := a.Pools.ByKind()[kind].Policy.Value
		if policy == "fixed" { // nothing of the kind was sampled
			policy = candidates[0]
		}
		under[kind.String()] = []string{policy}
	}
	return under
}

// pools holds what the held-out samples asked of each pool under its policy against what the configuration says.
func (in *Inputs) pools(a Advice, largest Demand, v *Verification) error {
	var all bursts
	for _, pool := range []struct {
		name string
		Pool
	}{{"general", a.Pools.General}, {"vision_features", a.Pools.VisionFeatures},
		{"text_embeddings", a.Pools.TextEmbeddings}} {
		policies := a.Replayed()[pool.name]
		var needs []Need
		if p := largest[pool.name]; p != nil {
			need, err := needOf(p, policies)
			if err != nil {
				return fmt.Errorf("replaying pool %s: %w", pool.name, err)
			}
			needs = append(needs, need)
		}
		for _, s := range in.Seen {
			if n, ok := s[pool.name]; ok {
				needs = append(needs, n)
			}
		}
		var most, least int64
		for _, n := range needs {
			if need := n.Reserved[0]; most == 0 || need < least {
				least = need
			}
			most = max(most, n.Reserved[0])
		}
		if most == 0 {
			continue
		}
		top := pool.Max.Value
		low := units.Bytes(math.Floor(float64(top)/tight)) - granule
		v.bytes("pools."+pool.name+".max", top, max(0, low), top, units.Bytes(most),
			fmt.Sprintf("largest need of %d other seeds and of a request at the limits", len(in.Seen)))
		all.burst, all.reclaim, all.samples = all.burst+units.Bytes(most), all.reclaim+units.Bytes(least), len(in.Seen)
	}
	capacity := a.Budget.tightest().Capacity.Value
	high := units.Bytes(a.Pressure.High.Value * float64(capacity))
	v.bytes("pressure.high", high, 0, capacity, high-all.reclaim+all.burst,
		"a burst at the threshold, after a reaction: below capacity")
	return nil
}

// Held holds an engine's buffers, as witness states them, against its estimate, name by name and place by place. The
// rounding of what was stated widens the interval.
func Held(estimate, stated []engine.Item, witness string) Verification {
	v := Verification{blind: true}
	type key struct{ name, where string }
	sum := func(items []engine.Item, k key) (at, low, high units.Bytes, found bool) {
		for _, i := range items {
			if i.Name == k.name && i.Where == k.where {
				at, low, high, found = at+i.Bytes, low+i.Low, high+i.High, true
			}
		}
		return at, low, high, found
	}
	seen := map[key]bool{}
	for _, i := range estimate {
		k := key{i.Name, i.Where}
		if seen[k] {
			continue
		}
		seen[k] = true
		at, low, high, _ := sum(estimate, k)
		c := Claim{What: k.where + " " + k.name, Unit: "B", Claimed: float64(at), Low: float64(low), High: float64(high),
			How: witness}
		said, least, most, found := sum(stated, k)
		if c.Seen = float64(said); !found {
			c.Absent, c.How = true, witness+" does not say"
		} else {
			c.Low, c.High = max(0, c.Low-float64(most-said)), c.High+float64(said-least)
		}
		if v.Claims = append(v.Claims, c); !c.Holds() {
			v.Failed++
		}
		decoder := slices.Contains([]string{engine.Weights, engine.KVCache, engine.Compute}, i.Name)
		v.blind = v.blind && !(decoder && found)
	}
	return v
}

// present holds the machine as it is now against what the configuration took for granted.
func (in *Inputs) present(a Advice, v *Verification) {
	now := in.machine()
	m := a.Hardware.Memory.Value
	v.bytes("hardware.memory", m, m, m, now.Memory.Value, "what the machine reports now")
	v.roomNow("host", &a.Budget.Host, in.host())
	switch {
	case a.Budget.Device != nil && in.gpu() == nil:
		v.Claims = append(v.Claims, Claim{What: "device", Claimed: 1, Low: 1, High: 1, Seen: 0, How: "no card answers"})
	case a.Budget.Device != nil:
		v.roomNow("device", a.Budget.Device, *in.device())
	}
	if then := a.Hardware.Measured; then != nil {
		in.timings(*then, now.Measured, v)
	}
}

// roomNow asks whether the items still fit beside what is in use now.
func (v *Verification) roomNow(name string, then *Side, now Side) {
	need := then.used() - then.Other.Value
	v.bytes(name+" room", then.Capacity.Value-then.Other.Value, need, now.Capacity.Value,
		now.Capacity.Value-now.Other.Value, "free now; the items need "+need.String())
	if c := &v.Claims[len(v.Claims)-1]; now.Other.Source != Measured {
		c.Absent, c.Seen, c.How = true, 0, "what is free now could not be read"
	}
}

// How far a second measurement may lie from the first, either way. What lies beyond the core is shared with neighbours,
// whom a virtual machine cannot see.
const (
	again       = 1.5
	againShared = 2.0
)

func (in *Inputs) timings(then Timings, now *Timings, v *Verification) {
	if now == nil {
		now = &Timings{}
	}
	size := func(v *Value[units.Bytes]) units.Bytes {
		if v == nil {
			return 0
		}
		return v.Value
	}
	for _, t := range []struct {
		what       string
		then, seen units.Bytes
		unit       string
		factor     float64
	}{
		{"l1", size(then.L1), size(now.L1), "B", again}, {"l2", size(then.L2), size(now.L2), "B", again},
		{"llc", size(then.LLC), size(now.LLC), "B", againShared}, {"dram_read", then.DRAM.Value, now.DRAM.Value, "B/s",
			againShared},
	} {
		c := Claim{What: "hardware.measured." + t.what, Unit: t.unit, Claimed: float64(t.then),
			Low: float64(t.then) / t.factor, High: float64(t.then) * t.factor,
			Seen: float64(t.seen), How: "timed again", Timed: true}
		if t.then == 0 || t.seen == 0 {
			c.Absent, c.How = true, "it could not be timed, then or now"
		}
		v.Claims = append(v.Claims, c)
	}
}

// Verdict is nil where every claim that could be seen holds.
func (v *Verification) Verdict() error {
	seen := slices.ContainsFunc(v.Claims, func(c Claim) bool { return !c.Absent })
	switch {
	case v.blind && v.Failed == 0:
		return verdict.Unsure.Errorf("%s: weights, cache and compute buffers could not be seen; llama-server prints them "+
			"with -lv 4", v.Config)
	case !seen:
		return verdict.Unsure.Errorf("%s: no claim could be seen; llama-server prints its buffers with -lv 4",
			v.Config)
	case v.Failed == 0:
		return nil
	case v.Failed == v.Timed && len(v.Warnings) > 0:
		return verdict.Unsure.Errorf("%d timings differ, and the machine was not quiet: %s", v.Timed,
			v.Warnings[0])
	}
	return verdict.Failed.Errorf("%s: %d of %d claims fail", v.Config, v.Failed, len(v.Claims))
}
