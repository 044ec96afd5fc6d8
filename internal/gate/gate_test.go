package gate

import (
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/verdict"
)

func TestVerdict(t *testing.T) {
	sure := Fits("a", advise.Standing{Verdict: "fits"})
	tight := Fits("b", advise.Standing{Verdict: "fits if …", Most: 5})
	not := Fits("c", advise.Standing{Verdict: "does not fit", Most: 9, Middle: 7})
	for _, c := range []struct {
		checks []Check
		want   verdict.Kind
		words  string
	}{
		{[]Check{sure}, 0, ""},
		{nil, 0, ""},
		{[]Check{sure, tight}, verdict.Unsure, "b: fits if …"},
		{[]Check{tight, not, sure}, verdict.Failed, "c: does not fit"},
	} {
		err := Result{Checks: c.checks}.Verdict()
		if verdict.KindOf(err) != c.want || err != nil && err.Error() != c.words {
			t.Errorf("%v: %v, want %v and %q", c.checks, err, c.want, c.words)
		}
	}
	if sure.Outcome != Holds || tight.Missing != 5 || not.Missing != 7 {
		t.Errorf("%+v %+v %+v", sure, tight, not)
	}
}
