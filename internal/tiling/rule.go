package tiling

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// smallestRuleTile is where [SharedMemoryRule] gives up: with fewer rows, K and V are read from L2 for every eight
// multiplications or less and the rule's tiles lose to no tiles at all.
const smallestRuleTile = 8

// RuleBytes is the shared memory of three square fp32 tiles, Q, K and V: 3·tile·headDim·4.
func RuleBytes(tile, headDim int) units.Bytes { return units.Bytes(3 * tile * headDim * floatBytes) }

// SharedMemoryRule is the largest power of two T whose Q, K and V tiles, T x headDim in fp32, fit the shared memory
// that every block has without asking for more. On 48 KiB it gives 64, 32, 16, 8 for head dimensions 64, 128, 256, 512.
// ok is false where not even eight rows fit: at 576 they would take 55,296 B.
func SharedMemoryRule(gpu profile.GPU, headDim int) (tile int, ok bool) {
	if headDim < 1 {
		return 0, false
	}
	for t := smallestRuleTile; RuleBytes(t, headDim) <= gpu.SharedMemoryPerBlockBytes; t *= 2 {
		tile = t
	}
	return tile, tile > 0
}
