package speed

import (
	"math"
	"strings"
)

// Nominal overheads, seconds; the fit moves them.
const (
	layerSeconds     = 45e-6 // launches of one layer's kernels, CUDA
	hostLayerSeconds = 10e-6 // threads of one layer's operations meeting
	crossingSeconds  = 60e-6 // activations to the host and back, a layer of experts
	cardSeconds      = 150e-6
	busBytesPerS     = 16e9
)

// terms are summands that take time.
type terms []Term

func (t *terms) add(seconds float64, effects ...Effect) {
	if seconds > 0 {
		*t = append(*t, Term{seconds, effects})
	}
}

// DecodeTerms are the summands of one decoded token, in seconds.
func DecodeTerms(q Query) []Term {
	var out terms
	add := out.add
	w, s := q.Work, q.Setting
	layers := w.CardLayers + w.HostLayers
	depthCard, depthHost := 0.0, 0.0
	if layers > 0 {
		depthCard = w.KVBytes * w.Depth * w.CardLayers / layers
		depthHost = w.KVBytes * w.Depth * w.HostLayers / layers
	}
	if c := q.Card; c != nil {
		add(w.CardBytes/c.BandwidthBytesPS, c.weightEffects(s, false)...)
		add(w.CardExpertBytes/c.BandwidthBytesPS, c.weightEffects(s, true)...)
		cache := of("cache", s.Backend, "arch:"+c.Arch)
		if s.NoFlash {
			cache = append(cache, Effect{"cache/no flash", 1})
		}
		add(depthCard/c.BandwidthBytesPS, cache...)
		overhead := of("layer", "backend:"+s.Backend, "engine:"+s.Engine, "arch:"+c.Arch)
		if w.Experts {
			overhead = append(overhead, Effect{"layer/experts", 1})
		}
		add(w.CardLayers*layerSeconds, overhead...)
		if c.Count > 1 {
			add(float64(c.Count-1)*cardSeconds, Effect{"cards", 1})
		}
	}
	if h := q.Host; h != nil && (w.HostBytes > 0 || w.HostExpertBytes > 0) {
		beside := q.Card != nil
		add(w.HostBytes/h.BandwidthBytesPS, h.weightEffects(s, false, beside)...)
		add(w.HostExpertBytes/h.BandwidthBytesPS, h.weightEffects(s, true, beside)...)
		add(w.HostOps/h.flops(), h.decodeOps(s)...)
		add(depthHost/h.BandwidthBytesPS, Effect{"host cache", 1})
		add(w.HostLayers*hostLayerSeconds, Effect{"host layer", 1})
		if beside && w.HostExpertBytes > 0 {
			add(layers*crossingSeconds, Effect{"crossing", 1})
		}
	}
	return out
}

// PrefillTerms are the summands of one token of the prompt, in seconds.
func PrefillTerms(q Query) []Term {
	var out terms
	add := out.add
	w, s := q.Work, q.Setting
	batch := math.Max(1, math.Min(w.Prompt, w.UBatch))
	scores := w.ScoreOps * w.Prompt / 2
	if c := q.Card; c != nil {
		// Weights on the host are copied to the card for every micro-batch of 32 and more; all is computed there.
		ops, layers := w.CardOps, w.CardLayers
		if batch >= 32 {
			ops += w.HostOps
			layers += w.HostLayers
		}
		add(ops/c.flops(), c.opsEffects(s, w, batch)...)
		attention := of("scores", "arch:"+c.Arch, "backend:"+s.Backend)
		if s.NoFlash {
			attention = append(attention, Effect{"scores/no flash", 1})
		}
		add(scores/c.flops(), attention...)
		add((w.CardBytes+w.CardExpertsAll)/c.BandwidthBytesPS/batch, Effect{"read", 1})
		add(layers*layerSeconds*2/batch, of("batch layer", "backend:"+s.Backend, "engine:"+s.Engine)...)
		if batch >= 32 {
			bus := c.HostCopyBytesPerS
			if bus == 0 {
				bus = busBytesPerS
			}
			add((w.HostBytes+w.HostExpertsAll)/bus/batch, Effect{"copy", 1})
			return out
		}
	}
	if h := q.Host; h != nil && w.HostOps > 0 {
		add(w.HostOps/h.flops(), h.opsEffects(s, w)...)
		add(scores/h.flops(), Effect{"host scores", 1})
		add((w.HostBytes+w.HostExpertsAll)/h.BandwidthBytesPS/batch, Effect{"host read", 1})
	}
	return out
}

// of names an effect and its refinements.
func of(name string, by ...string) []Effect {
	out := []Effect{{name, 1}}
	for _, b := range by {
		out = append(out, Effect{name + "/" + b, 1})
	}
	return out
}

func (c *Card) weightEffects(s Setting, experts bool) []Effect {
	e := of("weights", "arch:"+c.Arch, "backend:"+s.Backend, "engine:"+s.Engine, "type:"+s.Type,
		"family:"+c.family()+" "+s.Backend, "type:"+s.Type+" family:"+c.family(),
		"engine:"+s.Engine+" family:"+c.family())
	e = append(e, Effect{"weights/bandwidth", math.Log(c.BandwidthBytesPS / 5e11)})
	if c.Laptop {
		e = append(e, Effect{"weights/laptop", 1})
	}
	if experts {
		e = append(e, Effect{"weights/experts", 1})
	}
	if s.Old {
		e = append(e, Effect{"weights/old", 1})
	}
	return e
}

func (c *Card) opsEffects(s Setting, w Work, batch float64) []Effect {
	e := of("ops", "arch:"+c.Arch, "backend:"+s.Backend, "engine:"+s.Engine, "type:"+s.Type,
		"type:"+s.Type+" arch:"+c.Arch, "engine:"+s.Engine+" family:"+c.family())
	e = append(e, Effect{"ops/size", math.Log((w.CardOps + w.HostOps) / 1.6e10)},
		Effect{"ops/batch", math.Log(batch / 512)})
	if c.Laptop {
		e = append(e, Effect{"ops/laptop", 1})
	}
	if w.Experts {
		e = append(e, Effect{"ops/experts", 1})
	}
	if s.Old {
		e = append(e, Effect{"ops/old family:" + c.family(), 1})
	}
	if n := float64(c.Count); n > 1 {
		// Cards work on micro-batches one behind another: m of them take m+n−1 turns.
		m := math.Max(1, w.Prompt/batch)
		e = append(e, Effect{"ops/cards", math.Log(n * m / (m + n - 1))})
	}
	return e
}

func (h *Host) weightEffects(s Setting, experts, beside bool) []Effect {
	e := of("host weights", "class:"+h.Class, "isa:"+h.ISA, "engine:"+s.Engine, "type:"+s.Type)
	e = append(e, Effect{"host weights/bandwidth", math.Log(h.BandwidthBytesPS / 5e10)},
		Effect{"host weights/cores", math.Log(h.Cores / 8)})
	if experts {
		e = append(e, Effect{"host weights/experts", 1})
	}
	if beside {
		e = append(e, Effect{"host weights/beside a card", 1})
	}
	if h.ReadBytesPerS > 0 {
		e = append(e, Effect{"host weights/measured", 1})
	}
	return e
}

func (h *Host) decodeOps(s Setting) []Effect {
	return append(of("host ops", "class:"+h.Class, "isa:"+h.ISA, "engine:"+s.Engine, "type:"+s.Type),
		Effect{"host decode ops", 1})
}

func (h *Host) opsEffects(s Setting, w Work) []Effect {
	e := append(of("host ops", "class:"+h.Class, "isa:"+h.ISA, "engine:"+s.Engine, "type:"+s.Type),
		Effect{"host ops/cores", math.Log(h.Cores / 8)})
	if w.Experts {
		e = append(e, Effect{"host ops/experts", 1})
	}
	return e
}

// flops is the arithmetic of the host at full rate: lanes of 32 bits, two a cycle, a multiply-add counting two.
func (h *Host) flops() float64 {
	perCycle := map[string]float64{"sse": 8, "avx": 16, "avx2": 32, "avx512": 48, "neon": 16}[h.ISA]
	if perCycle == 0 {
		perCycle = 32
	}
	return h.Cores * h.GHz * 1e9 * perCycle
}

// wide is how many times the 32-bit rate a card's units for matrix products reach: tensor cores in 16 bits, and on
// sm_61 the dot products of four bytes (CUDA C++ Programming Guide, arithmetic throughput; whitepapers of each chip).
var wide = map[string]float64{
	"pascal61": 4, "pascal60": 2, "volta": 8, "turing": 8, "turing16": 4, "ampere": 4, "ampere-dc": 16,
	"ada": 4, "hopper": 15, "blackwell": 4, "rdna3": 2, "rdna4": 4, "rdna1": 2, "rdna2": 2, "vega": 2, "cdna": 4,
	"apu": 2, "intel": 8,
}

// flops is the rate of matrix products by data sheet. Where the sheet is unknown, operations a byte of bandwidth of the
// cards of its kind stand in.
func (c *Card) flops() float64 {
	w := wide[c.Arch]
	if w == 0 {
		w = 1
	}
	if c.FlopsPS > 0 {
		return c.FlopsPS * w
	}
	return c.BandwidthBytesPS * 40 * w
}

// Feasible reports whether a card's arithmetic allows a prompt to be read so fast: faster ones were found in a cache.
func (q *Query) Feasible(tokensPerSecond float64) bool {
	return q.Card == nil || tokensPerSecond*q.Work.CardOps <= q.Card.flops()*math.Max(1, float64(q.Card.Count))
}

// Impossible reports whether a card would have to read its memory faster than its peak to write so fast. A twentieth is
// left for peaks and files that were rounded.
func (q *Query) Impossible(tokensPerSecond float64) bool {
	if q.Card == nil {
		return false
	}
	bytes := q.Work.CardBytes + q.Work.CardExpertBytes
	return tokensPerSecond*bytes > 1.05*q.Card.BandwidthBytesPS
}

// Family joins architectures whose kernels are alike.
func Family(c *Card) string { return c.family() }

func (c *Card) family() string {
	switch {
	case strings.HasPrefix(c.Arch, "pascal"):
		return "pascal"
	case strings.HasPrefix(c.Arch, "rdna"), c.Arch == "vega", c.Arch == "cdna", c.Arch == "apu":
		return "amd"
	case c.Arch == "apple", c.Arch == "intel":
		return c.Arch
	}
	return "tensor"
}

// TypeOf groups the names of weight types by the kernels that read them.
func TypeOf(quant string) string {
	q := strings.ToLower(quant)
	switch {
	case strings.HasPrefix(q, "q4_k"), strings.HasPrefix(q, "apex"):
		return "q4_k"
	case strings.HasPrefix(q, "q4_"):
		return "q4_0"
	case strings.HasPrefix(q, "q5"):
		return "q5"
	case strings.HasPrefix(q, "q6"):
		return "q6_k"
	case strings.HasPrefix(q, "q8"):
		return "q8_0"
	case strings.HasPrefix(q, "q2"), strings.HasPrefix(q, "q3"):
		return "q2-3_k"
	case strings.HasPrefix(q, "iq4"):
		return "iq4"
	case strings.HasPrefix(q, "iq"):
		return "iq1-3"
	case q == "f16", q == "fp16", q == "bf16", q == "f32":
		return "f16"
	case strings.HasPrefix(q, "mxfp4"), strings.HasPrefix(q, "nvfp4"):
		return "fp4"
	case q == "int8", strings.HasPrefix(q, "fp8"), q == "w8a8":
		return "int8"
	case strings.HasPrefix(q, "gptq"), strings.HasPrefix(q, "awq"), strings.HasPrefix(q, "int4"):
		return "int4"
	}
	return "other"
}
