package advise

import (
	"strings"
	"testing"
)

// TestNeedsThatNoReplayGives: figures edited by hand are refused.
func TestNeedsThatNoReplayGives(t *testing.T) {
	need := func(lowerBound int64) Seen {
		n := Need{LowerBound: lowerBound}
		for range candidates {
			n.Reserved, n.Starved = append(n.Reserved, 8), append(n.Starved, nil)
		}
		return Seen{"weights": n}
	}
	if err := need(8).Check(); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		seen Seen
		want string
	}{
		{need(-1), "want a lower bound"},
		{need(9), "reserved 8 bytes, less than the lower bound 9"},
		{Seen{"weights": {}}, "figures of"},
	} {
		if err := c.seen.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
