package baseline

// Yardstick is a fixed piece of work with the habits of an allocator: dependent loads over a table that exceeds the
// first level of cache, compares and branches that depend on them, stores. Its time stands for the speed of the machine
// at that moment. Changing it makes saved baselines worthless, so it must not change.
type Yardstick struct {
	table [1 << 16]uint32 // 256 KiB
	state uint32
}

// NewYardstick fills the table.
func NewYardstick() *Yardstick {
	y := &Yardstick{state: 1}
	for i := range y.table {
		y.state = y.state*1664525 + 1013904223
		y.table[i] = y.state
	}
	return y
}

// yardstickSteps takes about a millisecond on a machine of 2020.
const yardstickSteps = 100_000

// Run does the work once.
func (y *Yardstick) Run() {
	at := y.state
	for range yardstickSteps {
		slot := &y.table[at>>16]
		if *slot&1 == 0 {
			*slot = *slot>>1 ^ at
		} else {
			*slot += at | 1
		}
		at = at*1664525 + *slot
	}
	y.state = at
}
