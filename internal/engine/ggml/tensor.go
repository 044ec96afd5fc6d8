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

	listed *Graph    // that has it
	at     int       // backend, by the schedule under way
	placed placement // by the reservation under way
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

func fresh(t Type, op Op, ne ...int64) *Tensor {
	x := &Tensor{Type: t, NE: [4]int64{1, 1, 1, 1}, Op: op, Follow: true}
	copy(x.NE[:], ne)
	x.NB[0] = t.Bytes
	x.NB[1] = t.Row(x.NE[0])
	x.NB[2] = x.NB[1] * x.NE[1]
	x.NB[3] = x.NB[2] * x.NE[2]
	return x
}

func like(a *Tensor, op Op, src ...*Tensor) *Tensor {
	x := fresh(a.Type, op, a.NE[:]...)
	x.Src = src
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
	return like(a, OpInPlace, append([]*Tensor{a}, more...)...)
}

// Rope rotates a by positions; its place does not follow weights.
func Rope(a, positions *Tensor) *Tensor {
	x := InPlace(a, positions)
	x.Follow = false
	return x
}

// Same is an operation of a's shape that needs its own memory.
func Same(a *Tensor, more ...*Tensor) *Tensor {
	return like(a, OpElsewhere, append([]*Tensor{a}, more...)...)
}

// New is an operation with a shape of its own that needs its own memory.
func New(t Type, src []*Tensor, ne ...int64) *Tensor {
	x := fresh(t, OpElsewhere, ne...)
	x.Src = src
	return x
}

// MulMat is wᵀ·a in f32: [w.NE1, a.NE1, a.NE2, a.NE3].
func MulMat(w, a *Tensor) *Tensor {
	x := fresh(F32, OpMulMat, w.NE[1], a.NE[1], a.NE[2], a.NE[3])
	x.Src = []*Tensor{w, a}
	return x
}

// MulMatID is the product of each token with the matrices of its experts: [w.NE1, ids.NE0, a.NE2].
func MulMatID(w, a, ids *Tensor) *Tensor {
	x := fresh(F32, OpMulMat, w.NE[1], ids.NE[0], a.NE[2])
	x.Src = []*Tensor{w, a, ids}
	return x
}

// GetRows gathers the rows of a named by ids, in f32.
func GetRows(a, ids *Tensor) *Tensor {
	x := fresh(F32, OpGetRows, a.NE[0], ids.NE[0], ids.NE[1], ids.NE[2])
	x.Src = []*Tensor{a, ids}
	return x
}

// SetRows writes rows into a cache, where ids say or, where these are nil, one after the other.
func SetRows(cache, rows, ids *Tensor) *Tensor {
	x := View(cache, cache.NE, cache.NB)
	x.Op, x.Src = OpSetRows, []*Tensor{rows, ids, cache}
	if ids == nil {
		x.Src = []*Tensor{rows, cache}
	}
	return x
}

// View looks at a with sizes and strides of its own.
func View(a *Tensor, ne, nb [4]int64) *Tensor {
	base := a
	if a.Base != nil {
		base = a.Base
	}
	return &Tensor{Type: a.Type, NE: ne, NB: nb, Op: OpView, Src: []*Tensor{a}, Base: base, Follow: true}
}

// Reshape looks at a contiguous a with other sizes.
func Reshape(a *Tensor, ne ...int64) *Tensor {
	shape := fresh(a.Type, OpView, ne...)
	return View(a, shape.NE, shape.NB)
}

// Permute looks at a with axis i at place axes[i].
func Permute(a *Tensor, axes ...int) *Tensor {
	ne, nb := a.NE, a.NB
	for i, to := range axes {
		ne[to], nb[to] = a.NE[i], a.NB[i]
	}
	return View(a, ne, nb)
}
