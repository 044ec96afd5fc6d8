package probe

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseCPUSets(t *testing.T) {
	for _, test := range []struct {
		text  string
		parse func(string) (cpuset, error)
		want  string // as a list, "error" for a refusal
	}{
		{"", parseList, ""},
		{"0-3,8\n", parseList, "0-3,8"},
		{"5", parseList, "5"},
		{"3-1", parseList, "error"},
		{"0-99999999", parseList, "error"},
		{"-1", parseList, "error"},
		{"0-3,", parseList, "error"},
		{"f", parseMask, "0-3"},
		{"00000000,0000ffff\n", parseMask, "0-15"},
		{"1,00000000,00000001", parseMask, "0,64"},
		{"00000001,00000000", parseMask, "32"},
		{"0", parseMask, ""},
		{"0xf0", parseMask, "4-7"},
		{"zz", parseMask, "error"},
		{"", parseMask, "error"},
		{"123456789", parseMask, "error"},
	} {
		s, err := test.parse(test.text)
		got := s.String()
		if err != nil {
			got = "error"
		}
		if got != test.want {
			t.Errorf("%q: %q, want %q", test.text, got, test.want)
		}
	}
}

// TestCPUSetAgainstMap holds the bit operations against sets kept as maps.
func TestCPUSetAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOf(rapid.IntRange(0, 200))
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		sa, sb := setOf(a), setOf(b)
		var both, either []int
		for n := range 201 {
			inA, inB := slices.Contains(a, n), slices.Contains(b, n)
			if inA && inB {
				both = append(both, n)
			}
			if inA || inB {
				either = append(either, n)
			}
			if sa.has(n) != inA {
				t.Fatalf("has(%d) of %v", n, a)
			}
		}
		check := func(what string, got cpuset, want []int) {
			if !slices.Equal(got.list(), want) || got.count() != len(want) || got.intersects(got) != (len(want) > 0) {
				t.Fatalf("%s of %v and %v: %v, want %v", what, a, b, got.list(), want)
			}
			if len(want) > 0 && got.first() != want[0] {
				t.Fatalf("first of %v: %d", want, got.first())
			}
			parsed, err := parseList(got.String())
			if err != nil || !parsed.equal(got) {
				t.Fatalf("%q does not read back: %v", got.String(), err)
			}
		}
		check("and", sa.and(sb), both)
		check("or", sa.or(sb), either)
		if sa.within(sb) != (len(both) == sa.count()) || sa.intersects(sb) != (len(both) > 0) {
			t.Fatalf("within or intersects of %v and %v", a, b)
		}
	})
}

func setOf(numbers []int) cpuset {
	var s cpuset
	for _, n := range numbers {
		s = s.with(n)
	}
	return s
}

func FuzzParseCPUSets(f *testing.F) {
	for _, seed := range []string{"0-3,8", "ffff,ffffffff", "", "1,,2", "9999999999", "-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (cpuset, error){parseList, parseMask} {
			s, err := parse(text)
			if err != nil {
				continue
			}
			if again, err := parseList(s.String()); err != nil || !again.equal(s) {
				t.Errorf("%q reads as %q, which does not read back", text, s)
			}
		}
	})
}
