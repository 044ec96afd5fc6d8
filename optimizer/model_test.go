package optimizer

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// remembered is a tensor beside what was written to it.
type remembered struct {
	*Tensor
	content []byte
	freed   bool
}

// model is what an optimizer promises, the slow way: every tensor's content is kept apart and compared after each step.
type model struct {
	t       *rapid.T
	o       *Optimizer
	tensors []*remembered
	closed  bool
	next    byte
}

// TestModel holds the whole public interface, with arguments that make no sense among them, to the model: no panic, no
// tensor that changes, no free that is taken twice, and nothing live once all was freed.
func TestModel(t *testing.T) {
	text := advised(t, small...)
	rapid.Check(t, func(t *rapid.T) {
		o, err := Open(strings.NewReader(text), Collect(func() {}))
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		m := &model{t: t, o: o}
		t.Repeat(map[string]func(*rapid.T){"": m.intact, "make": m.make, "free": m.free, "nonsense": m.nonsense,
			"attention": m.attention, "images": m.images, "pressure": m.pressure, "close": m.close})
		for _, x := range m.tensors {
			if !x.freed && !m.closed {
				m.only(o.Free(x.Tensor))
			}
		}
		for _, s := range o.Statistics() {
			if s.Requested != 0 || s.Allocs != s.Frees {
				t.Errorf("%v: %d bytes are live, %d given and %d taken back", s.Kind, s.Requested, s.Allocs, s.Frees)
			}
		}
	})
}

// only tells whether err is nil; other errors than those of the package are failures.
func (m *model) only(err error, allowed ...error) bool {
	allowed = append(allowed, ErrOutOfMemory, ErrPressure)
	if m.closed {
		allowed = append(allowed, ErrClosed)
	}
	if err != nil && !slices.ContainsFunc(allowed, func(a error) bool { return errors.Is(err, a) }) {
		m.t.Fatal(err)
	}
	return err == nil
}

// keep writes a tensor and remembers it.
func (m *model) keep(x *Tensor) {
	m.next++
	r := &remembered{Tensor: x}
	err := x.Use(func(b []byte) error {
		r.content = bytes.Repeat([]byte{m.next}, len(b))
		copy(b, r.content)
		return nil
	})
	if m.only(err) {
		m.tensors = append(m.tensors, r)
	}
}

func (m *model) make(t *rapid.T) {
	size := rapid.OneOf(rapid.IntRange(1, 300), rapid.IntRange(-2, 3),
		rapid.SampledFrom([]int{math.MaxInt, math.MinInt, 1 << 31, 1 << 40}))
	s := Spec{Shape: rapid.SliceOfN(size, 0, 4).Draw(t, "shape"),
		DType: rapid.SampledFrom([]DType{FP32, FP16, BF16, INT8, "", "fp64"}).Draw(t, "type"),
		Kind:  Kind(rapid.IntRange(0, 7).Draw(t, "kind")), Layout: Layout(rapid.IntRange(0, 3).Draw(t, "layout")),
		Speculative: rapid.Bool().Draw(t, "speculative"), Stream: uint16(rapid.IntRange(0, 9).Draw(t, "stream"))}
	x, err := m.o.Make(s)
	if err != nil {
		return // which ones are refused, other tests say
	}
	rows := x.Elements() / int64(x.Shape[len(x.Shape)-1])
	if s.Layout > Skewed || x.Row(-1) != nil || x.Row(int(rows)) != nil || x.Row(math.MaxInt) != nil ||
		x.Row(int(rows)-1) == nil {
		t.Fatalf("rows of %+v", s)
	}
	m.keep(x)
}

func (m *model) free(t *rapid.T) {
	if len(m.tensors) == 0 {
		return
	}
	x := rapid.SampledFrom(m.tensors).Draw(t, "tensor")
	err := m.o.Free(x.Tensor)
	if x.freed || m.closed {
		if !errors.Is(err, ErrNotLive) && !errors.Is(err, ErrClosed) {
			t.Fatalf("freed twice: %v", err)
		}
		return
	}
	m.only(err)
	x.freed = true
	if x.Bytes() != nil || x.Use(func([]byte) error { return nil }) == nil {
		t.Fatal("a freed tensor is lent")
	}
}

// nonsense is what no program should ask, and what may not bring it down.
func (m *model) nonsense(t *rapid.T) {
	var none Tensor
	for _, err := range []error{m.o.Free(nil), m.o.Free(&none), m.o.Free(&Tensor{Shape: []int{1}}), m.o.FreeAttention(nil),
		m.o.FreeAttention(&Attention{}), m.o.FreeImageBatch(nil), m.o.FreeImageBatch(&ImageBatch{})} {
		if !errors.Is(err, ErrNotLive) {
			t.Fatalf("nothing was freed: %v", err)
		}
	}
	used := none.Use(func([]byte) error { return nil })
	if none.Bytes() != nil || none.Address() != 0 || none.Row(0) != nil || used == nil {
		t.Fatal("a tensor that nobody made has memory")
	}
}

func (m *model) attention(t *rapid.T) {
	n := rapid.OneOf(rapid.IntRange(1, 40), rapid.IntRange(-1, 0), rapid.SampledFrom([]int{math.MaxInt, 1 << 33}))
	a, err := m.o.Attention(AttentionShape{Batch: n.Draw(t, "batch"), Tokens: n.Draw(t, "tokens"),
		Heads: n.Draw(t, "heads"), KVHeads: n.Draw(t, "kv"), HeadDim: n.Draw(t, "dim"), DType: FP16,
		Rows: n.Draw(t, "rows")})
	if err == nil {
		m.keep(a.V)
	}
}

func (m *model) images(t *rapid.T) {
	n := rapid.OneOf(rapid.IntRange(-2, 4), rapid.SampledFrom([]int{14, 16, 28, 1 << 32, math.MinInt}))
	v := Vision{InChannels: rapid.SampledFrom([]int{3, 3, 3, 0, -1}).Draw(t, "channels"), PatchSize: n.Draw(t, "patch"),
		SpatialMergeSize: n.Draw(t, "merge"), TemporalPatchSize: n.Draw(t, "temporal")}
	i := Image{Width: 28 * n.Draw(t, "width"), Height: 28 * n.Draw(t, "height")}
	if pixels := 3 * i.Width * i.Height; pixels >= 0 && pixels < 1<<22 {
		i.Frames = slices.Repeat([][]byte{make([]byte, pixels)}, rapid.IntRange(0, 3).Draw(t, "frames"))
	}
	b, err := m.o.ImageBatch([]Image{i}, v, HalfNormalization())
	if err == nil {
		m.keep(b.Pixels)
	}
}

func (m *model) pressure(t *rapid.T) {
	_, err := m.o.Feed(at("host", rapid.SampledFrom([]int{10, 80, 99}).Draw(t, "used")))
	_, failed := m.o.Compact()
	m.only(errors.Join(err, failed))
	m.o.Level()
}

// close is rare: nothing much happens afterwards.
func (m *model) close(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "close") == 0 {
		m.only(m.o.Close())
		m.closed = true
	}
}

// intact compares every live tensor.
func (m *model) intact(t *rapid.T) {
	for _, x := range m.tensors {
		if x.freed || m.closed {
			continue
		}
		m.only(x.Use(func(b []byte) error {
			if !bytes.Equal(b, x.content) {
				t.Fatalf("a tensor of %v changed", x.Shape)
			}
			return nil
		}))
	}
}
