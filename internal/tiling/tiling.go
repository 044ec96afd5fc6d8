// Package tiling chooses tiles: how large a piece of a matrix product or of attention to hold close to the arithmetic.
//
// A tile is right when what is reused stays in the memory that is fast enough to feed the arithmetic, and no more is
// asked of that memory than it has. On a CPU the memory is the caches and the limit is size, ways and sharing; on a GPU
// it is shared memory and registers, and the limit is how many blocks still fit a multiprocessor (SM) beside one
// another.
//
// # CPU
//
// The matrix product is Goto's five loops around a register kernel of mr x nr, and its tiles follow the analytical
// model of Low, Igual, Smith and Quintana-Ortí ("Analytical Modeling Is Enough for High-Performance BLIS", ACM TOMS 43,
// 2016). With way = size/ways of each level, W its ways and elements of 4 bytes:
//
//	L1: ceil(4·mr·kc/way1) + ceil(4·nr·kc/way1) + 1 <= W1     an A and a B micropanel, and one way for C
//	L2: mc = (W2 - 1 - ceil(4·nr·kc/way2)) · way2/(4·kc)      the A block, beside a B micropanel and C
//	L3: nc = (W3 - 1 - ceil(4·mc·kc/way3)) · way3/(4·kc)      the B panel, beside the A block and C
//
// Attention uses the same register kernel twice: S = Q·Kᵀ over head_dim, then O += P·V over block_kv. So block_kv obeys
// the L1 line above as kc does. A query costs 2·d/block_q elements of K and V from beyond L2 for each key, and
// 2·d/block_kv of O from L2; where L2 must hold the rows of Q and O, a tile of K and of V and the scores, their sum is
// least for equal blocks x, and with E elements of L2 (one way left out)
//
//	x² + 4·d·x = E      block_kv = min(x, L1's)      block_q = (E - 2·block_kv·d) / (2·d + block_kv)
//
// A cache that k of the running threads share counts a k-th; one that was measured smaller than it reports counts as
// measured: effective = min(measured, reported/k). Ways shrink in proportion, since a way is what neighbours take away.
//
// # GPU
//
// [SharedMemoryRule] is the rule this project began with: the largest power of two T for which square fp32 tiles of Q,
// K and V, 3·T·d·4 bytes, fit a block's shared memory. [Attention] and [MatMul] enumerate tiles instead, drop what an
// SM cannot run (see [Occupancy]) and score the rest with one cost model, whose equations stand at its code:
// instruction issue, shared memory, L2, device memory and latency each give a time; the largest is the prediction and
// names the limit. The rule and llama.cpp's table are scored by that same model and stand beside the choice.
//
// Everything here is a function of its arguments: no clock, no machine, the same answer every time. Packages search and
// card time tiles on the CPU and the card at hand.
package tiling

import "github.com/vlmem/vlmem/internal/evidence"

// Reason says why a field of a result has its value and how far to trust it.
type Reason struct {
	Field  string `json:"field" yaml:"field"` // the result's field in snake case: block_q, kc
	Text   string `json:"text" yaml:"text"`
	Source string `json:"source" yaml:"source"` // derived, measured or assumed
}

// The three ways a value can have come about.
const (
	Derived  = string(evidence.Derived)
	Measured = string(evidence.Measured)
	Assumed  = string(evidence.Assumed)
)

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func roundUp(a, unit int) int { return ceilDiv(a, unit) * unit }
