package ggml

// Op is what a node does, as far as placement cares: ggml lets some operations write over a source, and views own
// nothing.
type Op uint8

// The operations of the graphs that are built here.
const (
	OpNone      Op = iota // a leaf: weight, cache or input
	OpView                // view, reshape, permute, transpose
	OpSetRows             // writes into a leaf; owns nothing
	OpGetRows             // gather
	OpMulMat              // also with expert ids
	OpInPlace             // add, mul, div, unary, rms_norm, rope, soft_max, clamp, scale: may take over a source
	OpElsewhere           // anything else that needs memory of its own: cont, glu, argsort, pad, flash attention, im2col …
)

// Tensor is a node or leaf of a graph. Sizes NE are elements, strides NB bytes, innermost first.
type Tensor struct {
	Name   string
	Type   Type
	NE, NB [4]int64
	Op     Op
	Src    []*Tensor
	Base   *Tensor // what a view looks into, nil for an owner
	Input  bool    // set by the program before each run; never overwritten by another tensor
	Home   Home    // where it lies before the graph runs
	Follow bool    // its place follows the weights it reads; rope and flash attention do not
	Pin    Home    // where it must run, Nowhere to let the scheduler choose
	Extra  int64   // bytes that the device asks for beyond the elements
	OnCPU  bool    // no card has a kernel for it
	Keep   bool    // an output: never overwritten and never freed

	few    [4]*Tensor // where Src lies, as far as it goes
	listed *Graph     // that has it
	at     int        // backend, by the schedule under way
	placed placement  // by the reservation under way
}

// Home says which backend holds a tensor before the graph is reserved: nobody, the host, or one of the cards.
type Home uint16

// Homes of leaves.
const (
	Nowhere Home = iota // Reserve places it
	OnHost              // weights or cache in the host's memory
	firstCard

	OnDevice     = firstCard // weights or cache of the first card
	WeightDevice = OnDevice | weightFlag
	WeightHost   = OnHost | weightFlag

	weightFlag Home = 1 << 8
	packedFlag Home = 1 << 9
)

// Card is the home on card i, counted from 0.
func Card(i int) Home { return firstCard + Home(i) }

// Weight is the same place for a weight, which draws its operations there.
func (h Home) Weight() Home { return h | weightFlag }

// Packed is the place of a weight that the host keeps in a layout of its own: no card can take a copy of it.
func (h Home) Packed() Home { return h | weightFlag | packedFlag }

// Cache is the same place for something that is no weight.
func (h Home) Cache() Home { return h &^ (weightFlag | packedFlag) }

func (h Home) weight() bool { return h&weightFlag != 0 }

// Leaf is memory that exists before the graph runs: a weight or the cache.
func Leaf(name string, t Type, home Home, ne ...int64) *Tensor {
	leaf := fresh(t, OpNone, ne...)
	leaf.Name, leaf.Home = name, home
	return leaf
}

// Input is a leaf that the program fills before each run.
func Input(name string, t Type, ne ...int64) *Tensor {
	in := fresh(t, OpNone, ne...)
	in.Name, in.Input = name, true
	return in
}

// from sets what a tensor reads.
func (t *Tensor) from(src ...*Tensor) *Tensor {
	t.Src = append(t.few[:0], src...)
	return t
}

func fresh(t Type, op Op, ne ...int64) *Tensor {
	x := new(Tensor)
	x.Type, x.Op, x.Follow = t, op, true
	x.shape(ne...)
	return x
}

// shape gives a tensor contiguous elements; what is not said of NE is 1.
func (t *Tensor) shape(ne ...int64) {
	t.NE = [4]int64{1, 1, 1, 1}
	copy(t.NE[:], ne)
	t.NB[0] = t.Type.Bytes
	t.NB[1] = t.Type.Row(t.NE[0])
	t.NB[2] = t.NB[1] * t.NE[1]
	t.NB[3] = t.NB[2] * t.NE[2]
}

func like(op Op, a *Tensor, more []*Tensor) *Tensor {
	x := fresh(a.Type, op, a.NE[:]...)
	x.Src = append(append(x.few[:0], a), more...)
	return x
}

// Bytes is the memory from the first to the last element.
func (t *Tensor) Bytes() int64 {
	n := t.Type.Row(t.NE[0])
	for i := 1; i < 4; i++ {
		n += (t.NE[i] - 1) * t.NB[i]
	}
	return n
}

// Elements is how many there are.
func (t *Tensor) Elements() int64 { return t.NE[0] * t.NE[1] * t.NE[2] * t.NE[3] }

func sameLayout(a, b *Tensor) bool { return a.Type == b.Type && a.NE == b.NE && a.NB == b.NB }

// InPlace is an elementwise or row-wise operation of a's shape that may write over one of its sources.
func InPlace(a *Tensor, more ...*Tensor) *Tensor {
	return like(OpInPlace, a, more)
}

// Rope rotates a by positions; its place does not follow weights.
func Rope(a, positions *Tensor) *Tensor {
	x := InPlace(a, positions)
	x.Follow = false
	return x
}

// Same is an operation of a's shape that needs its own memory.
func Same(a *Tensor, more ...*Tensor) *Tensor {
	return like(OpElsewhere, a, more)
}

// New is an operation with a shape of its own that needs its own memory.
func New(t Type, src []*Tensor, ne ...int64) *Tensor {
	return fresh(t, OpElsewhere, ne...).from(src...)
}

// MulMat is wᵀ·a in f32: [w.NE1, a.NE1, a.NE2, a.NE3].
func MulMat(w, a *Tensor) *Tensor {
	return fresh(F32, OpMulMat, w.NE[1], a.NE[1], a.NE[2], a.NE[3]).from(w, a)
}

// MulMatID is the product of each token with the matrices of its experts: [w.NE1, ids.NE0, a.NE2].
func MulMatID(w, a, ids *Tensor) *Tensor {
	return fresh(F32, OpMulMat, w.NE[1], ids.NE[0], a.NE[2]).from(w, a, ids)
}

// GetRows gathers the rows of a named by ids, in f32.
func GetRows(a, ids *Tensor) *Tensor {
	return fresh(F32, OpGetRows, a.NE[0], ids.NE[0], ids.NE[1], ids.NE[2]).from(a, ids)
}

// SetRows writes rows into a cache, where ids say or, where these are nil, one after the other.
func SetRows(cache, rows, ids *Tensor) *Tensor {
	x := View(cache, cache.NE, cache.NB)
	x.Op = OpSetRows
	if ids == nil {
		return x.from(rows, cache)
	}
	return x.from(rows, ids, cache)
}

// View looks at a with sizes and strides of its own.
func View(a *Tensor, ne, nb [4]int64) *Tensor {
	base := a
	if a.Base != nil {
		base = a.Base
	}
	x := new(Tensor)
	x.Type, x.NE, x.NB, x.Op, x.Base, x.Follow = a.Type, ne, nb, OpView, base, true
	return x.from(a)
}

// Reshape looks at a contiguous a with other sizes.
func Reshape(a *Tensor, ne ...int64) *Tensor {
	x := View(a, a.NE, a.NB)
	x.shape(ne...)
	return x
}

// Permute looks at a with axis i at place axes[i].
func Permute(a *Tensor, axes ...int) *Tensor {
	ne, nb := a.NE, a.NB
	for i, to := range axes {
		ne[to], nb[to] = a.NE[i], a.NB[i]
	}
	return View(a, ne, nb)
}
