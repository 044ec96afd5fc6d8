package probe

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// maxCPU bounds what a garbled file can make us allocate; Linux itself stops at 8192.
const maxCPU = 1 << 16

// cpuset is a set of CPU or node numbers, bit n of word n/64 standing for number n. No word beyond the last member is
// kept.
type cpuset []uint64

func (s cpuset) trimmed() cpuset {
	for len(s) > 0 && s[len(s)-1] == 0 {
		s = s[:len(s)-1]
	}
	return s
}

func (s cpuset) with(n int) cpuset {
	for len(s) <= n/64 {
		s = append(s, 0)
	}
	s[n/64] |= 1 << (n % 64)
	return s
}

func (s cpuset) has(n int) bool { return n >= 0 && n/64 < len(s) && s[n/64]>>(n%64)&1 == 1 }

func (s cpuset) and(o cpuset) cpuset {
	r := make(cpuset, min(len(s), len(o)))
	for i := range r {
		r[i] = s[i] & o[i]
	}
	return r.trimmed()
}

func (s cpuset) or(o cpuset) cpuset {
	r := make(cpuset, max(len(s), len(o)))
	copy(r, s)
	for i, w := range o {
		r[i] |= w
	}
	return r
}

func (s cpuset) equal(o cpuset) bool { return s.within(o) && o.within(s) }

func (s cpuset) within(o cpuset) bool {
	for i, w := range s {
		if i >= len(o) && w != 0 || i < len(o) && w&^o[i] != 0 {
			return false
		}
	}
	return true
}

func (s cpuset) intersects(o cpuset) bool { return len(s.and(o)) > 0 }

func (s cpuset) count() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// first is the lowest member, -1 of an empty set.
func (s cpuset) first() int {
	for i, w := range s {
		if w != 0 {
			return 64*i + bits.TrailingZeros64(w)
		}
	}
	return -1
}

// list holds the members in ascending order, never nil.
func (s cpuset) list() []int {
	l := make([]int, 0, s.count())
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			l = append(l, 64*i+bits.TrailingZeros64(w))
		}
	}
	return l
}

// String writes s as the kernel writes lists: "0-3,8".
func (s cpuset) String() string {
	var parts []string
	l := s.list()
	for i := 0; i < len(l); {
		j := i
		for j+1 < len(l) && l[j+1] == l[j]+1 {
			j++
		}
		if part := strconv.Itoa(l[i]); i == j {
			parts = append(parts, part)
		} else {
			parts = append(parts, part+"-"+strconv.Itoa(l[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// parseList reads the kernel's list form, "0-3,8"; the empty list is the empty set.
func parseList(text string) (cpuset, error) {
	var s cpuset
	if text = strings.TrimSpace(text); text == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(low)
		b := a
		if err == nil && ranged {
			b, err = strconv.Atoi(high)
		}
		if err != nil || a < 0 || b < a || b >= maxCPU {
			return nil, fmt.Errorf("%q is no list of CPUs", text)
		}
		for n := a; n <= b; n++ {
			s = s.with(n)
		}
	}
	return s, nil
}

// parseMask reads the kernel's mask form: comma-separated 32-bit words in hexadecimal, the highest first.
func parseMask(text string) (cpuset, error) {
	words := strings.Split(strings.TrimSpace(text), ",")
	if len(words) > maxCPU/32 {
		return nil, errors.New("CPU mask is too long")
	}
	s := make(cpuset, (len(words)+1)/2)
	for i, word := range words {
		v, err := strconv.ParseUint(strings.TrimPrefix(word, "0x"), 16, 32)
		if err != nil {
			return nil, fmt.Errorf("%q is no mask of CPUs", text)
		}
		place := len(words) - 1 - i
		s[place/2] |= v << (32 * (place % 2))
	}
	return s.trimmed(), nil
}
