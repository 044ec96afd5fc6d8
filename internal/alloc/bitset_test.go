package alloc

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestBitset holds the levels against a plain set.
func TestBitset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s bitset
		want := map[int64]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			i := rapid.Int64Range(0, 1<<rapid.IntRange(0, 20).Draw(t, "magnitude")).Draw(t, "element")
			if rapid.Bool().Draw(t, "add") {
				s.add(i)
				want[i] = true
			} else if want[i] {
				s.remove(i)
				delete(want, i)
			}
			if s.has(i) != want[i] {
				t.Fatalf("has %d: %v", i, !want[i])
			}
			var list []int64
			for i := range want {
				list = append(list, i)
			}
			slices.Sort(list)
			first := int64(-1)
			if len(list) > 0 {
				first = list[0]
			}
			if got := slices.Collect(s.all()); !slices.Equal(got, list) || s.first() != first {
				t.Fatalf("%v from %d, not %v", got, s.first(), list)
			}
		}
	})
}
