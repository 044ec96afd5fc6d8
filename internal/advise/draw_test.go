package advise_test

import (
	"reflect"
	"runtime"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/workload"
)

// TestDrawIsTheSameOnAnyCores: what samples show does not depend on how many of them are replayed at once, or on what
// a replay leaves out.
func TestDrawIsTheSameOnAnyCores(t *testing.T) {
	in := inputs(t, "qwen3-vl-2b", "i5-10210u", "gtx-1080")
	const seeds = 3
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var one []advise.Seen
	for _, cores := range []int{1, 2, 5} {
		runtime.GOMAXPROCS(cores)
		done := 0
		got, err := in.Draw(nil, 0, seeds, advise.Candidates(), func(n, of int) {
			if done++; n != done || of != seeds {
				t.Errorf("%d cores: %d of %d told after %d", cores, n, of, done)
			}
		})
		if err != nil || len(got) != seeds {
			t.Fatal(got, err)
		}
		if one == nil {
			one = got
		} else if !reflect.DeepEqual(got, one) {
			t.Errorf("%d cores: %v, one core %v", cores, got, one)
		}
	}
	t.Run("step by step", func(t *testing.T) { stepByStep(t, &in, one[0]) })
}

// stepByStep replays every step, as Draw does not.
func stepByStep(t *testing.T, in *advise.Inputs, want advise.Seen) {
	sequence, err := in.Sequence(nil, 0, workload.Static)
	if err != nil {
		t.Fatal(err)
	}
	demand, err := replay.Split(sequence)
	if err != nil {
		t.Fatal(err)
	}
	for pool, policies := range advise.Candidates() {
		for i, policy := range policies {
			peak, starved, err := advise.Plain(demand[pool], policy)
			if err != nil || peak != want[pool].Reserved[i] || !reflect.DeepEqual(starved, want[pool].Starved[i]) {
				t.Errorf("%s, %s: %d, %v, %v; want %d, %v", pool, policy, peak, starved, err, want[pool].Reserved[i],
					want[pool].Starved[i])
			}
		}
	}
}
