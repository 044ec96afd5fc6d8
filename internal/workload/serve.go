package workload

import (
	"fmt"
	"iter"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// BlockTokens is the length of a block of the paged KV cache, for all layers together.
const BlockTokens = 16

// ServeOptions is how a mix is served. The zero value of each field but Requests is its default.
type ServeOptions struct {
	Requests int
	Seed     uint64
	DType    profile.DType // bf16
	Eager    bool          // decode operator by operator, not as one captured graph
}

// Stream is the memory behaviour of a service that runs a mix of requests, step by step. Each request is taken on when
// it has arrived and a place is free: its images go through the tower and its prompt through the decoder, in one pass
// each, as Request describes them, with fused attention on a GPU; then it decodes one token per step together with all
// others. Keys and values lie in blocks of BlockTokens tokens, allocated as a sequence grows and freed when it ends;
// none is ever taken away, so the trace asks for what the mix needs and not for what a card has.
//
// Decode steps run as graphs captured at the start, as engines do: one block holds the peak of a pass at full
// concurrency, and a step allocates what lies outside the graph. With Eager each step allocates operator by operator.
type Stream struct {
	model   profile.Model
	mix     profile.Mix
	options ServeOptions
	server  *server // of the latest All
}

// Serve prepares a stream.
func Serve(model profile.Model, mix profile.Mix, o ServeOptions) (*Stream, error) {
	if o.DType == "" {
		o.DType = profile.BF16
	}
	if o.Requests <= 0 {
		return nil, fmt.Errorf("serving %d requests: want at least one", o.Requests)
	}
	if o.DType != profile.FP32 && o.DType != profile.BF16 && o.DType != profile.FP16 {
		return nil, fmt.Errorf("element type %q: want fp32, bf16 or fp16", o.DType)
	}
	s := &Stream{model: model, mix: mix, options: o}
	s.server = s.start()
	return s, nil
}

// Title names the stream.
func (s *Stream) Title() string {
	return fmt.Sprintf("%s %s %d requests seed %d %s", s.model.Name, s.mix.Name, s.options.Requests, s.options.Seed,
		s.options.DType)
}

// Tags is the table so far; Tags()[0] is "".
func (s *Stream) Tags() []string { return s.server.events.Tags() }

// Slots is a bound above every slot so far.
func (s *Stream) Slots() uint32 { return s.server.events.Slots() }

// All yields the events from the start. It needs memory for one step and for what is live, however many events there
// are.
func (s *Stream) All() iter.Seq2[trace.Event, error] {
	return func(yield func(trace.Event, error) bool) {
		s.server = s.start()
		for more := true; more; {
			var err error
			more, err = s.server.step()
			for _, e := range s.server.events.Drain() {
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(trace.Event{}, err)
				return
			}
		}
	}
}

// Trace holds the whole stream in memory, 32 bytes an event.
func (s *Stream) Trace() (*trace.Trace, error) {
	t := &trace.Trace{Name: s.Title()}
	for e, err := range s.All() {
		if err != nil {
			return nil, err
		}
		t.Events = append(t.Events, e)
	}
	t.Tags, t.Slots = s.Tags(), s.Slots()
	return t, nil
}

func (s *Stream) start() *server {
	o := Options{DType: s.options.DType, Fused: true}
	o.setDefaults()
	return &server{
		program: newProgram(s.Title(), &s.model, o), mix: &s.mix, eager: s.options.Eager,
		requests: newDrawing(&s.model, &s.mix, s.options.Seed), left: s.options.Requests,
		block: BlockTokens * int64(s.model.KVBytesPerToken(o.DType)),
	}
}

// sequence is a request being decoded.
type sequence struct {
	length    int64 // tokens in the cache
	remaining int   // to decode
	blocks    []block
	states    []block // of layers of linear attention
}

// server is a service in progress.
type server struct {
	*program
	mix      *profile.Mix
	eager    bool
	block    int64 // bytes of a block of the cache
	requests *drawing
	left     int     // to draw
	waiting  *Served // drawn, not yet taken on
	running  []sequence
	clock    float64 // seconds
	begun    bool
	graph    block // memory of the captured decode graph
}

// step takes on what has arrived and decodes one token of each running sequence; false after the last.
func (s *server) step() (more bool, err error) {
	if !s.begun {
		s.begun = true
		s.capture()
	}
	if err := s.admit(); err != nil {
		return false, err
	}
	if len(s.running) == 0 && s.waiting == nil && s.left == 0 {
		s.shutDown()
		return false, nil
	}
	if len(s.running) > 0 {
		s.decodeAll()
	}
	return true, nil
}

// capture records the decode pass at full concurrency: its graph keeps the memory of the pass for good.
func (s *server) capture() {
	if s.eager {
		return
	}
	o := Options{DType: s.dtype, Fused: true}
	o.setDefaults()
	dry := newProgram("", s.model, o)
	n := int64(s.mix.Service.Concurrency)
	embeds := dry.alloc("embed_tokens", n*int64(s.model.Text.HiddenSize)*dry.elem)
	normed := dry.decode(pass{batch: n, length: 1}, embeds, &kvCache{paged: true})
	dry.linear("lm_head", trace.General, n, int64(s.model.Text.VocabSize))
	dry.free(normed, embeds)
	s.module = "serve"
	s.events.Mark("capture")
	s.graph = s.keep(trace.General, "decode_graph", peak(dry.events.Trace()))
}

// peak is the most bytes live at one time.
func peak(t *trace.Trace) int64 {
	most := int64(0)
	for _, o := range t.Operations() {
		most = max(most, o.Live)
	}
	return most
}

// admit takes on requests in order of arrival while there is a place. An idle service waits for the next one.
func (s *server) admit() error {
	for len(s.running) < s.mix.Service.Concurrency {
		if s.waiting == nil {
			if s.left == 0 {
				return nil
			}
			s.left--
			r, err := s.requests.next()
			if err != nil {
				return err
			}
			s.waiting = &r
		}
		if s.waiting.Arrival > s.clock {
			if len(s.running) > 0 {
				return nil
			}
			s.clock = s.waiting.Arrival
		}
		if err := s.takeOn(*s.waiting); err != nil {
			return err
		}
		s.waiting = nil
	}
	return nil
}

// takeOn runs the tower and the prefill of one request.
func (s *server) takeOn(r Served) error {
	s.events.At(int64(s.clock * 1e9))
	x := gather(s.mix.Seconds != nil, r.Images...)
	length := promptTokens(s.model, x, int64(r.Prompt))
	if limit := int64(s.model.Text.MaxPositions); length+int64(r.Output) > limit {
		return fmt.Errorf("mix %s: a request of %d prompt and %d output tokens exceeds the %d positions of %s",
			s.mix.Name, length, r.Output, limit, s.model.Name)
	}
	var f features
	if len(r.Images) > 0 {
		s.events.Mark("vision")
		s.module = "inputs"
		pixels := s.keep(trace.VisionFeatures, "pixel_values", 4*x.patches*int64(x.grids[0].PatchWidth))
		f = s.tower(x)
		s.free(pixels)
	}
	s.running = append(s.running, s.prefill(length, x, f, r.Output))
	s.release()
	s.clock += float64(length+x.patches) / s.mix.Service.PrefillPerSec
	return nil
}

func (s *server) prefill(length int64, x images, f features, output int) sequence {
	s.events.Mark("prefill")
	q := sequence{length: length, remaining: output - 1}
	s.grow(&q)
	d := int64(s.model.Text.HiddenSize)
	s.module = "prefill"
	ids := s.alloc("input_ids", 8*length)
	positions := s.alloc("position_ids", 32*length)
	embeds := s.keep(trace.TextEmbeddings, "embed_tokens", length*d*s.elem)
	var held []block
	p := pass{batch: 1, length: length, vision: x.tokens, deepstack: f.deepstack}
	if len(x.grids) > 0 {
		embeds, held = s.scatter(embeds, x, length)
	}
	normed := s.decode(p, embeds, &kvCache{paged: true})
	s.module = "prefill"
	s.free(embeds)
	s.free(held...)
	if len(x.grids) > 0 {
		s.free(f.all()...)
	}
	s.sample(normed, 1)
	s.free(positions, ids)
	return q
}

// grow gives a sequence the blocks that its next token needs.
func (s *server) grow(q *sequence) {
	s.module = "kv_cache"
	if state := s.model.Text.StateBytes(s.elem); state > 0 && len(q.states) == 0 {
		q.states = []block{s.keep(trace.KVCache, "state", state)}
	}
	for int64(len(q.blocks))*BlockTokens < q.length {
		q.blocks = append(q.blocks, s.keep(trace.KVCache, "block", s.block))
	}
}

// sample picks the next token of n sequences from their normed states, which it frees.
func (s *server) sample(normed block, n int64) {
	s.module = "head"
	logits := s.linear("lm_head", trace.General, n, int64(s.model.Text.VocabSize))
	s.free(normed)
	s.pickTokens(n)
	s.free(logits)
}

// pickTokens works on a copy of the logits in fp32.
func (s *server) pickTokens(n int64) {
	s.module = "sample"
	wide := s.alloc("logits_fp32", 4*n*int64(s.model.Text.VocabSize))
	tokens := s.alloc("argmax", 8*n)
	s.free(wide, tokens)
}

// decodeAll decodes one token of each running sequence and lets go of those that are done.
func (s *server) decodeAll() {
	s.events.At(int64(s.clock * 1e9))
	s.events.Mark("decode")
	n := int64(len(s.running))
	for i := range s.running {
		q := &s.running[i]
		q.length++
		q.remaining--
		s.grow(q)
	}
	s.module = "decode"
	ids, positions := s.alloc("input_ids", 8*n), s.alloc("position_ids", 32*n)
	tables := s.alloc("block_tables", 4*n*int64(s.longest()))
	if s.eager {
		embeds := s.keep(trace.TextEmbeddings, "embed_tokens", n*int64(s.model.Text.HiddenSize)*s.elem)
		normed := s.decode(pass{batch: n, length: 1}, embeds, &kvCache{paged: true})
		s.free(embeds)
		s.sample(normed, n)
	} else {
		s.pickTokens(n)
	}
	s.free(tables, positions, ids)
	s.clock += s.mix.Service.StepSeconds
	s.release()
}

// longest is the most blocks that a running sequence holds.
func (s *server) longest() int {
	longest := 0
	for i := range s.running {
		longest = max(longest, len(s.running[i].blocks))
	}
	return longest
}

// release frees the blocks of sequences that are done.
func (s *server) release() {
	kept := s.running[:0]
	for _, q := range s.running {
		if q.remaining > 0 {
			kept = append(kept, q)
			continue
		}
		s.free(q.blocks...)
		s.free(q.states...)
	}
	s.running = kept
}

func (s *server) shutDown() {
	if !s.eager {
		s.free(s.graph)
	}
	if s.workspace {
		s.free(s.blas)
	}
}
