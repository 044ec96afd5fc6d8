package alloc_test

import (
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
	"github.com/vlmem/vlmem/internal/plan"
)

// The planned policy conforms without a plan, and with the plans of the suite's own runs, recorded through best fit:
// each run is then a second run up to where the suite's goroutines or refusals make it deviate.
func TestPlanConforms(t *testing.T) {
	options := alloc.Options{Capacity: capacity}
	planned := func() alloc.Allocator {
		a, err := alloc.New("plan", options)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	t.Run("without a plan", func(t *testing.T) { alloctest.Run(t, planned, alloctest.Options{}) })
	var recorded []*alloc.Recorder
	t.Run("recording", func(t *testing.T) {
		alloctest.Run(t, func() alloc.Allocator {
			a, err := alloc.New("bestfit", options)
			if err != nil {
				t.Fatal(err)
			}
			recorded = append(recorded, alloc.NewRecorder(a))
			return recorded[len(recorded)-1]
		}, alloctest.Options{})
	})
	longest := recorded[0].Run()
	for _, r := range recorded {
		if run := r.Run(); len(run.Buffers) > len(longest.Buffers) {
			longest = run
		}
	}
	longest.Buffers = longest.Buffers[:min(len(longest.Buffers), 3000)]
	var err error
	if options.Plan, err = alloc.NewPlan(longest, 0, plan.Options{Effort: 1e8}); err != nil {
		t.Fatal(err)
	}
	t.Run("with a plan", func(t *testing.T) { alloctest.Run(t, planned, alloctest.Options{}) })
}
