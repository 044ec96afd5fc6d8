package fleet

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// simulated is the mean wait of requests served in order of arrival by n machines.
func simulated(arrivals, services []float64, n int) float64 {
	free, sum := make([]float64, n), 0.0
	for i, at := range arrivals {
		next := 0
		for j := range free {
			if free[j] < free[next] {
				next = j
			}
		}
		start := max(at, free[next])
		sum += start - at
		free[next] = start + services[i]
	}
	return sum / float64(len(arrivals))
}

// TestWaitIsThatOfAQueue holds the approximation against a queue that is simulated, for mixes whose requests come one
// by one.
func TestWaitIsThatOfAQueue(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	grid, err := m.ImageGrid(1280, 720)
	if err != nil {
		t.Fatal(err)
	}
	r := rates{patch: 1e-4, prompt: 1e-3, step: 0.02, cached: 1e-6}
	for _, name := range []string{"chat", "documents", "screens", "phone"} {
		mix, err := profiles.Mix(name)
		if err != nil {
			t.Fatal(err)
		}
		var arrivals, services []float64
		var sum, squares float64
		for served, err := range workload.Draw(&m, &mix, 1) {
			if err != nil {
				t.Fatal(err)
			}
			one, _ := within(served, grid, 4096)
			arrivals, services = append(arrivals, served.Arrival), append(services, r.seconds(one))
			sum, squares = sum+r.seconds(one), squares+r.seconds(one)*r.seconds(one)
			if len(services) == 100000 {
				break
			}
		}
		n := float64(len(services))
		for _, busy := range []float64{0.5, 0.7, 0.9} {
			s := Service{Seconds: speed.Range{Median: sum / n, Low: sum / n, High: sum / n}}
			s.count(Asked{Requests: &mix, PerSecond: mix.Arrivals.PerSecond, Busy: busy}, squares/n/(sum/n*sum/n)-1)
			want := simulated(arrivals, services, s.Nodes)
			if math.Abs(s.Wait-want) > 0.25*want+0.02*sum/n {
				t.Errorf("%s on %d machines, %.2f spare: waits %.3f s, simulated %.3f s", name, s.Nodes, s.Spare, s.Wait, want)
			}
			if s.Nodes > 1 && mix.Arrivals.PerSecond*sum/n/float64(s.Nodes-1) <= busy {
				t.Errorf("%s: %d machines, one less would be %.2f busy at most", name, s.Nodes, busy)
			}
		}
	}
}

// TestErlangIsTheSumOfItsSeries: C(n, a) by its definition.
func TestErlangIsTheSumOfItsSeries(t *testing.T) {
	for n := 1; n <= 30; n++ {
		load := float64(n) * rand.New(rand.NewPCG(uint64(n), 0)).Float64()
		sum, term := 0.0, 1.0
		for k := range n {
			sum += term
			term *= load / float64(k+1)
		}
		last := term * float64(n) / (float64(n) - load)
		if got, want := erlang(n, load), last/(sum+last); math.Abs(got-want) > 1e-9 {
			t.Errorf("C(%d, %g) = %g, want %g", n, load, got, want)
		}
	}
}

// TestRequestsAreCutToTheLimits: what the context has no room for is no work, and is counted.
func TestRequestsAreCutToTheLimits(t *testing.T) {
	limit := profile.Grid{Patches: 400, Tokens: 100, Temporal: 1}
	for _, c := range []struct {
		r    workload.Served
		want amounts
		cut  bool
	}{
		{workload.Served{Prompt: 10, Output: 20}, amounts{0, 10, 20, 400}, false},
		{workload.Served{Prompt: 10, Output: 20, Images: []profile.Grid{{Patches: 800, Tokens: 200, Temporal: 1}}},
			amounts{400, 110, 20, 2400}, false},
		{workload.Served{Prompt: 10, Output: 20, Images: []profile.Grid{{Patches: 800, Tokens: 200, Temporal: 2}}},
			amounts{800, 210, 20, 4400}, false},
		{workload.Served{Prompt: 900, Output: 200}, amounts{0, 900, 100, 95000}, true},
		{workload.Served{Prompt: 9000, Output: 200}, amounts{0, 999, 1, 999.5}, true},
	} {
		if got, cut := within(c.r, limit, 1000); got != c.want || cut != c.cut {
			t.Errorf("%+v: %+v, %v; want %+v, %v", c.r, got, cut, c.want, c.cut)
		}
	}
}
