package speed

import (
	"cmp"
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/profile"
)

// Lay is where a model's weights lie, in bytes of their types. Layers on the host carry their cache with them.
type Lay struct {
	CardBytes, HostBytes float64 // of the decoder
	HostLayers           float64 // of the decoder's layers, those whose attention runs on the host
	KVBytesPerToken      float64
	TowerOnHost          bool // beside a card
}

// Request is what is asked: Context tokens at most, of which Prompt are read before the first is written.
type Request struct {
	Context, Prompt, UBatch float64
	Width, Height           int // pixels of the image, 0: none
}

// Forecast is how fast a model will answer. Rates are tokens per second, the others seconds. Ranges without a median
// are not known.
type Forecast struct {
	Decode     Range  `yaml:"decode_tokens_per_s" json:"decode_tokens_per_s"`           // with an empty cache
	DecodeFull Range  `yaml:"decode_full_tokens_per_s" json:"decode_full_tokens_per_s"` // with the context full
	Prefill    Range  `yaml:"prefill_tokens_per_s" json:"prefill_tokens_per_s"`
	Image      Range  `yaml:"image_s,omitempty" json:"image_s,omitzero"`
	FirstToken Range  `yaml:"first_token_s" json:"first_token_s"` // image, prompt and a step; loading left out
	Prompt     int    `yaml:"prompt_tokens" json:"prompt_tokens"`
	Pixels     string `yaml:"image,omitempty" json:"image,omitempty"`
	Class      string `yaml:"class" json:"class"`
	Rows       int    `yaml:"rows" json:"rows"` // measurements behind the interval
	Sources    int    `yaml:"sources" json:"sources"`
	// runs of this machine that moved the medians
	Observed        int  `yaml:"observed,omitempty" json:"observed,omitempty"`
	ObservedPrefill int  `yaml:"observed_prefill,omitempty" json:"observed_prefill,omitempty"`
	Thin            bool `yaml:"order_of_magnitude_only,omitempty" json:"order_of_magnitude_only,omitempty"`
	// of the machine, where its profile is silent
	Assumed []string `yaml:"assumed,omitempty" json:"assumed,omitempty"`
	// where quota, affinity or cpuset leave fewer CPUs than the machine has
	Threads    int    `yaml:"threads,omitempty" json:"threads,omitempty"`
	ThreadsWhy string `yaml:"threads_why,omitempty" json:"threads_why,omitempty"`
	Roof       *Roof  `yaml:"-" json:"-"` // nil where it is not known
}

// imageSpread is how far image times lie about the median: too few were measured for a percentile.
const imageSpread = 1.6

// Slow is the decode rate below which a model that fits is of no use to a person who waits.
const Slow = 1.0

// Forecast predicts m, laid out over a machine that k knows from observations, nil where none were made. An error says
// what of the machine is not known.
func (c *Constants) Forecast(m *profile.Model, h profile.Hardware, l Lay, s Setting, r Request,
	k *Calibration) (Forecast, error) {
	f := Forecast{Prompt: int(r.Prompt)}
	q, err := on(h, workOf(m, l), s)
	if err != nil {
		return f, err
	}
	if q.Host != nil {
		_, f.Assumed = HostOf(h)
		if h.UsableThreads() < h.CPU.Threads {
			f.Threads, f.ThreadsWhy = h.Compute()
		}
	}
	q.Work.Prompt, q.Work.UBatch = r.Prompt, r.UBatch
	a := c.PredictOn(q, k)
	if a.Observed == 0 && !c.measured(q.Card) {
		return f, fmt.Errorf("no measurement of %s or its like is known: --observed FILE takes one of yours",
			h.GPUs[0].Name)
	}
	f.Decode, f.Prefill, f.Class, f.Rows, f.Sources = q.bound(a.Decode), a.Prefill, a.Class, a.Rows, a.Sources
	f.Observed, f.ObservedPrefill, f.Thin = a.Observed, a.ObservedPrefill, a.Thin && a.Observed == 0
	f.Roof = q.roof(&f)
	q.Work.Depth = r.Context
	f.DecodeFull = q.bound(c.PredictOn(q, k).Decode)
	q.Work.Depth = r.Prompt
	step := q.bound(c.PredictOn(q, k).Decode).Invert()
	f.FirstToken = sum(f.Prefill.Invert().Scale(r.Prompt), step)
	if r.Width > 0 && m.Vision.Depth > 0 {
		grid, err := m.ImageGrid(r.Width, r.Height)
		if err != nil {
			return f, err
		}
		f.Pixels = fmt.Sprintf("%dx%d", r.Width, r.Height)
		f.Image = c.image(m, towerOf(q, h, l), grid)
		f.FirstToken = sum(f.FirstToken, f.Image)
	}
	return f, nil
}

// measured says that cards of this kind are among the rows that the constants are fitted to; NVIDIA's are, under more
// than one class.
func (c *Constants) measured(card *Card) bool {
	if card == nil || card.family() == "tensor" || card.family() == "pascal" || card.family() == "other" {
		return true
	}
	return c.Decode.Spread[card.family()].Rows > 0
}

// towerOf is where images are encoded: beside the decoder, or by the processor alone.
func towerOf(q Query, h profile.Hardware, l Lay) Query {
	if host, _ := HostOf(h); l.TowerOnHost && host != nil {
		q.Card, q.Host, q.Setting.Backend = nil, host, "cpu"
	}
	return q
}

// quieter is how much faster than its probe a machine may read: neighbours slow a measurement, and nothing speeds it
// up.
const quieter = 1.25

// bound keeps a decode rate under what memory was measured to give: a step of one request reads every weight on the
// host once. The fitted rows know machines by their data sheets; a guest with two processors of a large server has a
// small part of what its sheet says.
func (q Query) bound(r Range) Range {
	bytes := q.Work.HostBytes + q.Work.HostExpertBytes
	if q.Host == nil || q.Host.ReadBytesPerS == 0 || bytes == 0 || q.Work.Concurrency > 1 {
		return r
	}
	most := q.Host.ReadBytesPerS / bytes
	if r.Median <= most {
		return Range{r.Median, r.Low, min(r.High, max(r.Median, quieter*most))}
	}
	return Range{most, r.Low * most / r.Median, min(r.High, quieter*most)}
}

// on joins work to the places of a machine that it touches.
func on(h profile.Hardware, w Work, s Setting) (Query, error) {
	q := Query{Work: w, Setting: s}
	if w.CardBytes > 0 {
		if len(h.GPUs) == 0 {
			return q, fmt.Errorf("%s has no card", h.Name)
		}
		if q.Card = CardOf(&h.GPUs[0]); q.Card == nil {
			return q, fmt.Errorf("the bandwidth of %s is not known", h.GPUs[0].Name)
		}
		q.Setting.Backend = cmp.Or(s.Backend, BackendOf(&h.GPUs[0]))
	} else {
		q.Setting.Backend = "cpu"
	}
	if w.HostBytes > 0 || w.HostExpertBytes > 0 || q.Card == nil {
		if q.Host, _ = HostOf(h); q.Host == nil {
			return q, fmt.Errorf("%s names no processor: join it to a machine, as in i5-10210u+%s", h.Name, h.Name)
		}
	}
	return q, nil
}

func sum(a, b Range) Range { return Range{a.Median + b.Median, a.Low + b.Low, a.High + b.High} }

// expertsOf is the parameters of all experts: three matrices each.
func expertsOf(m *profile.Model) int {
	return m.Text.Layers * 3 * m.Text.HiddenSize * m.Text.MoE.IntermediateSize * m.Text.MoE.Experts
}

// workOf counts what a token reads and computes: of untied embeddings one row, of experts those that are asked.
func workOf(m *profile.Model, l Lay) Work {
	p, t := m.Parameters(), m.Text
	all := float64(p.Embed + p.LMHead + p.Layers)
	bytes := l.CardBytes + l.HostBytes
	w := Work{KVBytes: l.KVBytesPerToken, ScoreOps: 4 * float64(t.Layers*t.Heads*t.HeadDim),
		HostLayers: l.HostLayers, CardLayers: float64(t.Layers) - l.HostLayers}
	row := 0.0 // the table that is looked up, not read; it lies on the host
	if !t.TiedEmbeddings {
		row = float64(p.Embed) / all * bytes
	}
	card, host := l.CardBytes, math.Max(0, l.HostBytes-row)
	if l.HostBytes < row {
		card -= row - l.HostBytes
	}
	least := bytes // of experts that lie there: half of what one layer has
	if t.MoE != nil {
		least = float64(expertsOf(m)) / all * bytes / float64(2*t.Layers)
	}
	if l.CardBytes > 0 && l.HostLayers == 0 && host < least {
		host = 0 // the table alone: of a tied one the card reads its own copy
	}
	ops := 2 * (all - float64(p.Embed)*map[bool]float64{true: 0, false: 1}[t.TiedEmbeddings])
	if moe := t.MoE; moe != nil {
		w.Experts = true
		experts := float64(expertsOf(m))
		asked := float64(moe.ExpertsPerToken) / float64(moe.Experts)
		share := experts / all
		ops -= 2 * experts * (1 - asked)
		// Layers on the host carry their experts; what the host holds beyond them is experts of other layers.
		onHost := math.Min(host, share*bytes*l.HostLayers/float64(t.Layers))
		if plain := (bytes - row) * l.HostLayers / float64(t.Layers); host > plain {
			onHost = math.Min(host, onHost+host-plain)
		}
		w.HostExpertsAll, w.CardExpertsAll = onHost, math.Max(0, math.Min(card, share*bytes-onHost))
		w.HostExpertBytes, w.CardExpertBytes = asked*w.HostExpertsAll, asked*w.CardExpertsAll
		host, card = host-w.HostExpertsAll, card-w.CardExpertsAll
	}
	w.CardBytes, w.HostBytes = card, host
	if read := w.CardBytes + w.HostBytes + w.CardExpertBytes + w.HostExpertBytes; read > 0 {
		w.HostOps = ops * (w.HostBytes + w.HostExpertBytes) / read
	}
	w.CardOps = ops - w.HostOps
	return w
}

// image is the tower's time: 2 operations a parameter and patch, and 4·patches²·width·layers of scores, at the rate
// that prompts in 16 bits reach. It runs where the card is, else on the host.
func (c *Constants) image(m *profile.Model, q Query, grid profile.Grid) Range {
	p, patches := m.Parameters(), float64(grid.Patches)
	w := Work{Prompt: patches, UBatch: patches}
	ops := 2*float64(p.VisionCore) + 2*float64(p.Merger+p.Deepstack)/float64(max(1, square(m.Vision.SpatialMergeSize)))
	ops += 4 * patches * float64(m.Vision.HiddenSize*m.Vision.Depth)
	tower := Query{Card: q.Card, Host: q.Host, Setting: q.Setting}
	tower.Setting.Type = "f16"
	if q.Card != nil {
		w.CardOps, tower.Host = ops, nil
	} else {
		w.HostOps = ops
	}
	tower.Work = w
	rate := c.Predict(tower).Prefill.Median
	if rate <= 0 {
		return Range{}
	}
	t := patches / rate
	return Range{t, t / imageSpread, t * imageSpread}
}
