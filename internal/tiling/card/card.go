// Package card times package ptx's kernels on a CUDA device, so that a card's tiles are measured and not only
// predicted.
//
// Every kernel's result is first held to one computed on the CPU; a kernel that disagrees by more than 1e-4 is an error
// and no timing. Times are the median of several launches between two events. Beside each stands what package tiling
// predicts with the registers that the driver's compiler really gave the kernel, and [Agreement] says how well the two
// order the kernels. A [Memory] keeps timings in a file by card and driver.
package card

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/tiling/ptx"
)

// Timing is one kernel on one card.
type Timing struct {
	Entry            string  `json:"entry" yaml:"entry"`
	Seconds          float64 `json:"seconds" yaml:"seconds"`                     // measured, median
	PredictedSeconds float64 `json:"predicted_seconds" yaml:"predicted_seconds"` // 0 where the model refuses the tile
	Limit            string  `json:"limit" yaml:"limit"`
	Registers        int     `json:"registers" yaml:"registers"`
	SpilledBytes     int64   `json:"spilled_bytes" yaml:"spilled_bytes"` // per thread
	BlocksPerSM      int     `json:"blocks_per_sm" yaml:"blocks_per_sm"`
	LargestError     float64 `json:"largest_error" yaml:"largest_error"` // against the CPU's result
}

const (
	launches     = 11
	allowedError = 1e-4
)

// session owns what a run takes from the driver and gives it back in the opposite order.
type session struct {
	ctx    *cuda.Context
	undo   []func() error
	stream *cuda.Stream
	begin  *cuda.Event
	end    *cuda.Event
}

func open(ctx *cuda.Context) (*session, error) {
	s := &session{ctx: ctx}
	var err error
	if s.stream, err = ctx.NewStream(); err == nil {
		s.undo = append(s.undo, s.stream.Destroy)
		for _, e := range []**cuda.Event{&s.begin, &s.end} {
			if *e, err = ctx.NewEvent(true); err != nil {
				break
			}
			s.undo = append(s.undo, (*e).Destroy)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing to time kernels: %w", err), s.close())
	}
	return s, nil
}

func (s *session) close() error {
	var errs []error
	for _, f := range slices.Backward(s.undo) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// upload copies data to the device; nil data makes room for n bytes.
func (s *session) upload(n int64, data []byte) (cuda.Ptr, error) {
	p, err := s.ctx.Alloc(max(n, 1))
	if err != nil {
		return 0, fmt.Errorf("allocating %d B on the card: %w", n, err)
	}
	s.undo = append(s.undo, func() error { return s.ctx.Free(p) })
	if data != nil {
		err = s.ctx.ToDevice(p, data)
	}
	return p, err
}

func (s *session) load(module string) (*cuda.Module, error) {
	text, err := ptx.Source(module)
	if err != nil {
		return nil, err
	}
	m, err := s.ctx.Load(text)
	if err != nil {
		return nil, fmt.Errorf("compiling %s for the card: %w", module, err)
	}
	s.undo = append(s.undo, m.Unload)
	return m, nil
}

// time launches a kernel, checks its result, and launches it again between events.
func (s *session) time(f *cuda.Function, t *Timing, threads int, grid cuda.Dim3, args cuda.Args, out cuda.Ptr,
	want []float32) error {
	info, err := f.Info()
	if err != nil {
		return fmt.Errorf("asking about %s: %w", t.Entry, err)
	}
	t.Registers, t.SpilledBytes = info.Registers, info.LocalBytes
	if t.BlocksPerSM, err = f.Occupancy(threads, 0); err != nil {
		return fmt.Errorf("asking about %s: %w", t.Entry, err)
	}
	launch := func() error { return f.Launch(grid, cuda.Dim3{X: uint32(threads), Y: 1, Z: 1}, 0, s.stream, args) }
	if err := errors.Join(launch(), s.stream.Synchronize()); err != nil {
		return fmt.Errorf("running %s: %w", t.Entry, err)
	}
	got := make([]byte, 4*len(want))
	if err := s.ctx.ToHost(got, out); err != nil {
		return fmt.Errorf("reading the result of %s: %w", t.Entry, err)
	}
	if t.LargestError = largestError(got, want); !(t.LargestError <= allowedError) {
		return fmt.Errorf("%s is wrong by %g: its result is not used", t.Entry, t.LargestError)
	}
	var seconds []float64
	for range launches {
		if err := errors.Join(s.begin.Record(s.stream), launch(), s.end.Record(s.stream), s.end.Synchronize()); err != nil {
			return fmt.Errorf("timing %s: %w", t.Entry, err)
		}
		d, err := s.end.Since(s.begin)
		if err != nil {
			return fmt.Errorf("timing %s: %w", t.Entry, err)
		}
		seconds = append(seconds, d.Seconds())
	}
	slices.Sort(seconds)
	t.Seconds = seconds[launches/2]
	return nil
}

// largestError is relative where a value is above one.
func largestError(got []byte, want []float32) float64 {
	worst := 0.0
	for i, w := range want {
		d := math.Abs(float64(math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:]))-w)) / max(1, math.Abs(float64(w)))
		if d > worst || math.IsNaN(d) {
			worst = d
		}
	}
	return worst
}

// attentions are the compiled kernels of a head dimension and type of K and V.
func attentions(headDim int, kv profile.DType) ([]ptx.Attention, error) {
	all, err := ptx.Attentions(headDim)
	if err != nil {
		return nil, err
	}
	kernels := slices.DeleteFunc(all, func(k ptx.Attention) bool { return k.KV != kv })
	if len(kernels) == 0 {
		return nil, fmt.Errorf("timing attention: no kernel is compiled for head_dim %d with K and V in %s", headDim, kv)
	}
	return kernels, nil
}

// contest is kernels that do one work: what each launches, the matrices that they read, the bytes that they write, the
// arguments by where these lie, the result last, and what the CPU makes of it.
type contest struct {
	launches []launch
	read     [][]byte
	written  int
	args     func(at []cuda.Ptr) cuda.Args
	want     func() []float32
}

type launch struct {
	entry   string
	threads int
	grid    cuda.Dim3
}

// times runs every kernel, the fastest first.
func (c contest) times(ctx *cuda.Context) (timings []Timing, err error) {
	s, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	var at []cuda.Ptr
	for _, data := range append(c.read, nil) {
		p, err := s.upload(int64(max(len(data), c.written)), data)
		if err != nil {
			return nil, err
		}
		at = append(at, p)
	}
	module, err := s.load(ptx.ModuleOf(c.launches[0].entry))
	if err != nil {
		return nil, err
	}
	want := c.want()
	for _, l := range c.launches {
		t := Timing{Entry: l.entry}
		f, err := module.Function(l.entry)
		if err != nil {
			return nil, err
		}
		if err := s.time(f, &t, l.threads, l.grid, c.args(at), at[len(at)-1], want); err != nil {
			return nil, err
		}
		timings = append(timings, t)
	}
	slices.SortFunc(timings, faster)
	return timings, nil
}

// Attention times every compiled kernel of a head dimension and type of K and V on one work, the fastest first.
func Attention(ctx *cuda.Context, headDim int, w tiling.AttentionWork) ([]Timing, error) {
	kernels, err := attentions(headDim, w.KV)
	if err != nil {
		return nil, err
	}
	rows := w.Rows()
	q, k, v := numbers(1, rows*w.KVHeads, headDim), numbers(2, w.Keys*w.KVHeads, headDim),
		numbers(3, w.Keys*w.KVHeads, headDim)
	c := contest{
		read:    [][]byte{encode(q, profile.FP32), encode(k, w.KV), encode(v, w.KV)},
		written: rows * w.KVHeads * headDim * 4,
		args: func(at []cuda.Ptr) cuda.Args {
			return cuda.Args{}.Ptr(at[0]).Ptr(at[1]).Ptr(at[2]).Ptr(at[3]).Ptr(0).Ptr(0).Uint32(uint32(rows)).
				Uint32(uint32(w.Keys)).Float32(float32(math.Log2E / math.Sqrt(float64(headDim))))
		},
		want: func() []float32 { return expectedAttention(q, k, v, w) },
	}
	for _, k := range kernels {
		c.launches = append(c.launches, launch{k.Entry, k.Tile.Threads,
			cuda.Dim3{X: blocks(rows, k.Tile.BlockQ), Y: uint32(w.KVHeads), Z: 1}})
	}
	return c.times(ctx)
}

// Product times every compiled matrix product on one work, the fastest first.
func Product(ctx *cuda.Context, w tiling.MatMulWork) ([]Timing, error) {
	kernels, err := ptx.Products()
	if err != nil {
		return nil, err
	}
	a, b := numbers(1, w.M, w.K), numbers(2, w.K, w.N)
	c := contest{
		read:    [][]byte{encode(a, profile.FP32), encode(b, profile.FP32)},
		written: w.M * w.N * 4,
		args: func(at []cuda.Ptr) cuda.Args {
			return cuda.Args{}.Ptr(at[0]).Ptr(at[1]).Ptr(at[2]).Uint32(uint32(w.M)).Uint32(uint32(w.N)).Uint32(uint32(w.K))
		},
		want: func() []float32 {
			c := kernel.NewMatrix(w.M, w.N)
			blocks := kernel.Blocks{MC: 96, NC: 1024, KC: 256}
			kernel.Here()[0].Multiply(kernel.Tiled, c, a, b, blocks, &kernel.Workspace{})
			return c.Data
		},
	}
	for _, k := range kernels {
		c.launches = append(c.launches, launch{k.Entry, k.Tile.Threads,
			cuda.Dim3{X: blocks(w.N, k.Tile.BlockN), Y: blocks(w.M, k.Tile.BlockM), Z: 1}})
	}
	return c.times(ctx)
}

// PredictAttention sets what the model says of each timed kernel on a card, by the registers that it was compiled to:
// of timings that were kept, too, so that no prediction is older than the model. A kernel that the card cannot run, or
// that is compiled no more, has none.
func PredictAttention(timings []Timing, gpu profile.GPU, headDim int, w tiling.AttentionWork) error {
	kernels, err := attentions(headDim, w.KV)
	if err != nil {
		return err
	}
	predict(timings, func(entry string, registers int) (p tiling.Prediction, err error) {
		at := slices.IndexFunc(kernels, func(k ptx.Attention) bool { return k.Entry == entry })
		if at < 0 {
			return p, errNotCompiled
		}
		plan, err := tiling.PlanAttention(gpu, headDim, w, kernels[at].Tile, registers)
		return plan.Prediction, err
	})
	return nil
}

// PredictProduct is [PredictAttention] for products.
func PredictProduct(timings []Timing, gpu profile.GPU, w tiling.MatMulWork) error {
	kernels, err := ptx.Products()
	if err != nil {
		return err
	}
	predict(timings, func(entry string, registers int) (p tiling.Prediction, err error) {
		at := slices.IndexFunc(kernels, func(k ptx.Product) bool { return k.Entry == entry })
		if at < 0 {
			return p, errNotCompiled
		}
		plan, err := tiling.PlanMatMul(gpu, w, kernels[at].Tile, registers)
		return plan.Prediction, err
	})
	return nil
}

var errNotCompiled = errors.New("the kernel is compiled no more")

func predict(timings []Timing, of func(entry string, registers int) (tiling.Prediction, error)) {
	for i := range timings {
		t := &timings[i]
		t.PredictedSeconds, t.Limit = 0, ""
		if p, err := of(t.Entry, t.Registers); err == nil {
			t.PredictedSeconds, t.Limit = p.Seconds, p.Limit
		}
	}
}

func blocks(n, of int) uint32 { return uint32((n + of - 1) / of) }

func faster(a, b Timing) int { return cmp.Compare(a.Seconds, b.Seconds) }

// numbers are multiples of 1/256 between -1 and 1, which fp16 holds exactly.
func numbers(seed uint32, rows, columns int) kernel.Matrix {
	m := kernel.NewMatrix(rows, columns)
	for i := range m.Data {
		seed = seed*1664525 + 1013904223
		m.Data[i] = float32(int(seed>>16)%513-256) / 256
	}
	return m
}

// encode writes a matrix as the card reads it.
func encode(m kernel.Matrix, as profile.DType) []byte {
	data := make([]byte, 0, len(m.Data)*int(as.Bytes()))
	for _, x := range m.Data {
		if as == profile.FP16 {
			data = binary.LittleEndian.AppendUint16(data, half(x))
		} else {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
	}
	return data
}

// half is x in fp16, for an x that it holds exactly and that is zero or no smaller than 2⁻¹⁴.
func half(x float32) uint16 {
	b := math.Float32bits(x)
	if x == 0 {
		return 0
	}
	return uint16(b>>16&0x8000) | uint16(b>>23&0xff-127+15)<<10 | uint16(b>>13&0x3ff)
}

// expectedAttention is the output of every KV head, one after another, by the CPU.
func expectedAttention(q, k, v kernel.Matrix, w tiling.AttentionWork) []float32 {
	d, o := q.Columns, kernel.NewMatrix(q.Rows, q.Columns)
	head := func(m kernel.Matrix, i, n int) kernel.Matrix {
		return kernel.Matrix{Rows: n, Columns: d, Stride: d, Data: m.Data[i*n*d : (i+1)*n*d]}
	}
	for i := range w.KVHeads {
		kernel.Here()[0].Attention(kernel.Tiled, head(o, i, w.Rows()), head(q, i, w.Rows()), head(k, i, w.Keys),
			head(v, i, w.Keys),
			kernel.AttentionBlocks{Queries: 96, Keys: 256}, &kernel.Workspace{})
	}
	return o.Data
}

// Agreement is Spearman's rank correlation of measured and predicted times: 1 where the model orders the kernels as the
// card does. Kernels without a prediction are left out; with fewer than two it is not a number.
func Agreement(timings []Timing) float64 {
	var seen, said []float64
	for _, t := range timings {
		if t.PredictedSeconds > 0 {
			seen, said = append(seen, t.Seconds), append(said, t.PredictedSeconds)
		}
	}
	if len(seen) < 2 {
		return math.NaN()
	}
	return correlation(ranks(seen), ranks(said))
}
