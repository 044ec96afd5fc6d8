package plan

import "testing"

func TestValidate(t *testing.T) {
	ab := []Buffer{{ID: "a", Lower: 0, Upper: 5, Size: 8}, {ID: "b", Lower: 4, Upper: 9, Size: 4, Align: 4}}
	for _, c := range []struct {
		name    string
		buffers []Buffer
		s       Solution
		want    Verdict
	}{
		{"stacked", ab, Solution{[]int64{0, 8}, 12}, Good},
		{"gap", ab, Solution{[]int64{0, 12}, 16}, Good},
		{"touching in time", []Buffer{{Lower: 0, Upper: 4, Size: 8}, {Lower: 4, Upper: 9, Size: 4}},
			Solution{[]int64{0, 0}, 8}, Good},
		{"empty", nil, Solution{}, Good},
		{"one address shared", ab, Solution{[]int64{1, 8}, 12}, BadOverlap},
		{"one inside the other", ab, Solution{[]int64{0, 4}, 8}, BadOverlap},
		{"height too low", ab, Solution{[]int64{0, 8}, 11}, BadHeight},
		{"height too high", ab, Solution{[]int64{0, 8}, 13}, BadHeight},
		{"not aligned", ab, Solution{[]int64{0, 10}, 14}, BadAlignment},
		{"below zero", ab, Solution{[]int64{-8, 0}, 4}, BadOffset},
		{"an offset missing", ab, Solution{[]int64{0}, 8}, BadCount},
		{"no lifetime", []Buffer{{Lower: 3, Upper: 3, Size: 8}}, Solution{[]int64{0}, 8}, BadProblem},
		{"no size", []Buffer{{Lower: 3, Upper: 4}}, Solution{[]int64{0}, 0}, BadProblem},
	} {
		p := &Problem{Buffers: c.buffers}
		got, err := Validate(p, &c.s)
		if got != c.want || (err == nil) != (got == Good) {
			t.Errorf("%s: %v (%v), want %v", c.name, got, err, c.want)
		}
	}
}
