package placement

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
	"pgregory.net/rapid"
)

// card8 is the simulated card of these tests: 8 GiB, compute capability 6.1.
func card8(t testing.TB) (Machine, profile.GPU) {
	t.Helper()
	host, err := profiles.Hardware("i5-10210u")
	check(t, err)
	gpu, err := profiles.Hardware("gtx-1080")
	check(t, err)
	h := profile.Combine(host, gpu)
	h.Memory = nil // 8 GiB of host memory could not hold what the card does not; the comparison is of the card
	m, err := MachineOf(h)
	check(t, err)
	return m, h.GPUs[0]
}

func model8B(t testing.TB, tokens int) []Object {
	t.Helper()
	model, err := profiles.Model("qwen3-vl-8b")
	check(t, err)
	objects, err := ObjectsOf(&model, Shape{WeightBits: 4.5, VisionBits: 16, Tokens: tokens, KV: profile.FP16,
		ImagePeriod: 256})
	check(t, err)
	return objects
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAgainstStaticSplits runs an 8B model at 4 bits on the simulated card by vlmem's placement, by every split of
// layers that an engine offers, and by the two rules of thumb.
func TestAgainstStaticSplits(t *testing.T) {
	m, gpu := card8(t)
	rates, err := RatesOf(gpu)
	check(t, err)
	step := func(a Assignment) float64 {
		t.Helper()
		d, err := Simulate(m, rates, a, 3)
		check(t, err)
		return d.Seconds()
	}
	for _, tokens := range []int{4096, 16384, 24576, 32768, 65536} {
		objects := model8B(t, tokens)
		ours, err := Plan(m, objects)
		check(t, err)
		took := step(ours)
		best, bestName := math.Inf(1), ""
		staticSplits(m, objects, func(name string, a Assignment) {
			if s := step(a); s < best {
				best, bestName = s, name
			}
		})
		pageable, err := m.Assign(objects, repeat(memory.Pageable, len(objects)))
		check(t, err)
		first, err := m.Assign(objects, firstCome(m, objects))
		check(t, err)
		all, arrival := step(pageable), step(first)
		t.Logf("%6d tokens: placement %.1f ms (derived %.1f), best static %.1f ms (%s), first come %.1f ms, everything "+
			"pageable %.1f ms",
			tokens, took*1e3, ours.StepSeconds*1e3, best*1e3, bestName, arrival*1e3, all*1e3)
		if took > 1.1*best {
			t.Errorf("%d tokens: %.2f times the best static split, want at most 1.1", tokens, took/best)
		}
		if fits := ours.Staging == 0 && ours.MovedBytes < 1<<20; took >= all || !fits && took >= arrival ||
			took > arrival*1.001 {
			t.Errorf("%d tokens: %.1f ms does not beat first come %.1f ms and everything pageable %.1f ms", tokens, took*1e3,
				arrival*1e3, all*1e3)
		}
		// The equation is what perfect overlap takes. Two buffers come near where either side is the longer one by far.
		var serial float64
		for _, d := range ours.Decisions {
			serial += d.Seconds + d.Touched/m.DeviceRate
		}
		if ours.StepSeconds > took*1.01 || took > serial*1.05 {
			t.Errorf("%d tokens: the clock says %.1f ms, outside %.1f overlapped to %.1f serial", tokens, took*1e3,
				ours.StepSeconds*1e3, serial*1e3)
		}
	}
}

// staticSplits calls f for every way to keep k layers with their caches on the card, the first or the last, with or
// without the vision tower, the embedding and the head, that fits. The rest is pinned, which favours the splits.
func staticSplits(m Machine, objects []Object, f func(name string, a Assignment)) {
	layers := 0
	for _, o := range objects {
		if o.Kind == "kv_cache" {
			layers++
		}
	}
	for k := range layers + 1 {
		for mask := range 16 {
			places := repeat(memory.Device, len(objects))
			for i, o := range objects {
				var layer int
				on := false
				if n, _ := fmt.Sscanf(o.Name, "layer.%d", &layer); n == 1 {
					on = layer < k
				} else if n, _ := fmt.Sscanf(o.Name, "kv.%d", &layer); n == 1 {
					on = layer < k
				} else {
					bit := map[string]int{"vision": 1, "embedding": 2, "weights": 4}[o.Kind]
					places[i] = memory.Pinned
					if mask&bit != 0 {
						places[i] = memory.Device
					}
					continue
				}
				if mask&8 != 0 {
					on = layer >= layers-k
				}
				if !on {
					places[i] = memory.Pinned
				}
			}
			if a, err := m.Assign(objects, places); err == nil {
				f(fmt.Sprintf("%d layers, vision %v, embedding %v, head %v, last %v", k, mask&1 > 0, mask&2 > 0, mask&4 > 0,
					mask&8 > 0), a)
			}
		}
	}
}

// firstCome fills the card in the order in which a program loads: weights in order, then caches; what comes late is
// pageable.
func firstCome(m Machine, objects []Object) []memory.Place {
	places := repeat(memory.Pageable, len(objects))
	var largest int64
	for _, o := range objects {
		if o.staged() {
			largest = max(largest, o.Bytes)
		}
	}
	left := m.DeviceBytes - 2*largest
	for _, cache := range []bool{false, true} {
		for i, o := range objects {
			if (o.Kind == "kv_cache") == cache && o.Bytes <= left {
				places[i] = memory.Device
				left -= o.Bytes
			}
		}
	}
	return places
}

func repeat(p memory.Place, n int) []memory.Place { return slices.Repeat([]memory.Place{p}, n) }

// TestChoiceIsExact holds the search to trying every subset.
func TestChoiceIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := Machine{DeviceBytes: 1 << 30, DeviceRate: 300, PinnedRate: 10, PageableRate: 5}
		kinds := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) Object {
			b := rapid.Int64Range(1, 60).Draw(rt, "bytes")
			return Object{Kind: rapid.StringMatching("[ab]").Draw(rt, "kind"), Bytes: b,
				Touched: float64(b) / float64(rapid.IntRange(1, 4).Draw(rt, "period"))}
		}), 1, 4).Draw(rt, "kinds")
		var objects []Object
		for range rapid.IntRange(1, 12).Draw(rt, "objects") {
			objects = append(objects, rapid.SampledFrom(kinds).Draw(rt, "object"))
		}
		capacity := rapid.Int64Range(0, 300).Draw(rt, "capacity")
		saved := func(chosen func(i int) bool) (float64, int64) {
			var sum float64
			var used int64
			for i, o := range objects {
				if chosen(i) {
					here, _ := m.seconds(o, memory.Device)
					there, _ := m.seconds(o, memory.Pinned)
					sum, used = sum+there-here, used+o.Bytes
				}
			}
			return sum, used
		}
		best := 0.0
		for mask := range 1 << len(objects) {
			if s, used := saved(func(i int) bool { return mask>>i&1 == 1 }); used <= capacity {
				best = max(best, s)
			}
		}
		chosen := m.choose(objects, make([]bool, len(objects)), capacity)
		got, used := saved(func(i int) bool { return chosen[i] })
		if used > capacity || math.Abs(got-best) > 1e-9 {
			rt.Fatalf("saves %g with %d of %d bytes, the best subset saves %g", got, used, capacity, best)
		}
	})
}

func TestPlaces(t *testing.T) {
	m := Machine{DeviceBytes: 100, PinnedBytes: 50, DeviceRate: 300, PinnedRate: 10, PageableRate: 5, Managed: true}
	dense := func(name string, n int64) Object {
		return Object{Name: name, Kind: name, Bytes: n, Touched: float64(n)}
	}
	for _, c := range []struct {
		name    string
		objects []Object
		want    []memory.Place
	}{
		{"everything fits", []Object{dense("a", 50), dense("b", 50)}, []memory.Place{memory.Device, memory.Device}},
		{"hot before cold", []Object{{Kind: "cold", Bytes: 25, Touched: 1}, dense("hot", 20), dense("hot", 20),
			dense("hot", 20), dense("hot", 20)},
			[]memory.Place{memory.Pageable, memory.Pinned, memory.Device, memory.Pinned, memory.Device}},
		{"cold is staged", []Object{{Kind: "cold", Bytes: 20, Touched: 1}, dense("hot", 40),
			{Kind: "cold", Bytes: 20, Touched: 1}, {Kind: "cold", Bytes: 20, Touched: 1}, {Kind: "cold", Bytes: 20, Touched: 1}},
			[]memory.Place{memory.Pinned, memory.Device, memory.Pinned, memory.Pageable, memory.Device}},
		{"sparse in place", []Object{dense("a", 30), dense("b", 30), {Kind: "table", Bytes: 45, Touched: 1, Sparse: true}},
			[]memory.Place{memory.Device, memory.Device, memory.Pinned}},
		{"untouched", []Object{dense("a", 20), {Kind: "backup", Bytes: 90}}, []memory.Place{memory.Device, memory.Pageable}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, err := Plan(m, c.objects)
			check(t, err)
			var got []memory.Place
			for _, d := range a.Decisions {
				got = append(got, d.Place)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("placed %v, want %v", got, c.want)
			}
		})
	}
	if _, err := Plan(m, []Object{dense("a", 200)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an object twice the card: %v", err)
	}
	big := Machine{DeviceBytes: 1 << 20, PinnedBytes: 1 << 40, DeviceRate: 300e9, PinnedRate: 12e9, PageableRate: 1e9,
		FaultSeconds: 30e-6, Managed: true}
	for managed, want := range map[bool]memory.Place{true: memory.Managed, false: memory.Pinned} {
		big.Managed = managed
		places := []memory.Place{memory.Pageable}
		big.pin([]Object{{Kind: "logits", Bytes: 8 << 20, Touched: 8 << 20, Shared: true}}, places)
		if places[0] != want {
			t.Errorf("what host and card touch is %v, want %v", places[0], want)
		}
	}
}

func TestRefuses(t *testing.T) {
	m, gpu := card8(t)
	objects := model8B(t, 32768)
	if _, err := m.Assign(objects, repeat(memory.Device, len(objects))); !errors.Is(err, ErrTooLarge) {
		t.Errorf("11 GiB on a card of 8: %v", err)
	}
	if _, err := m.Assign(objects, nil); err == nil {
		t.Error("no places were accepted")
	}
	if _, err := Plan(m, []Object{{Name: "x"}}); err == nil {
		t.Error("an object of no bytes was accepted")
	}
	if _, err := Plan(Machine{}, objects); err == nil {
		t.Error("a machine without rates was accepted")
	}
	if _, err := MachineOf(profile.Hardware{Name: "h"}); err == nil {
		t.Error("a machine without a card was accepted")
	}
	gpu.HostBandwidthBytesPerS = 0
	if _, err := MachineOf(profile.Hardware{GPUs: []profile.GPU{gpu}}); err == nil {
		t.Error("a bus of unknown rate was accepted")
	}
	if _, err := RatesOf(gpu); err == nil {
		t.Error("simulating a bus of unknown rate was accepted")
	}
	model, err := profiles.Model("qwen3-vl-8b")
	check(t, err)
	if _, err := ObjectsOf(&model, Shape{}); err == nil {
		t.Error("an empty shape was accepted")
	}
}

// TestObjects adds a model up.
func TestObjects(t *testing.T) {
	for _, name := range profiles.ModelNames() {
		model, err := profiles.Model(name)
		check(t, err)
		objects, err := ObjectsOf(&model, Shape{WeightBits: 16, VisionBits: 16, Tokens: 1000, KV: profile.FP16,
			ImagePeriod: 1})
		check(t, err)
		var weights, cache int64
		for _, o := range objects {
			if o.Kind == "kv_cache" {
				cache += o.Bytes
			} else {
				weights += o.Bytes
			}
		}
		want := int64(model.WeightBytes(profile.FP16))
		if math.Abs(float64(weights)/float64(want)-1) > 1e-4 || cache != 1000*int64(model.KVBytesPerToken(profile.FP16)) {
			t.Errorf("%s: %d bytes of weights, want %d; %d of cache", name, weights, want, cache)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	m, _ := card8(b)
	objects := model8B(b, 32768)
	for b.Loop() {
		if _, err := Plan(m, objects); err != nil {
			b.Fatal(err)
		}
	}
}
