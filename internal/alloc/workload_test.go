package alloc

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// request is one call of generate of a model with an image, as a program.
func request(t *testing.T, model string, o workload.Options) program {
	m, err := profiles.Model(model)
	if err != nil {
		t.Fatal(err)
	}
	w, err := workload.Request(m, o)
	if err != nil {
		t.Fatal(err)
	}
	p := program{name: fmt.Sprintf("%s %dx%d, %d tokens, %d steps", model, o.Width, o.Height, o.PromptTokens,
		o.DecodeTokens)}
	at := map[uint32]int{}
	for _, e := range w.Events {
		switch e.Op {
		case trace.OpAlloc:
			at[e.Slot] = p.ids
			p.steps = append(p.steps, step{id: p.ids, size: e.Size, pool: e.Kind.String()})
			p.ids++
		case trace.OpFree:
			p.steps = append(p.steps, step{id: at[e.Slot]})
		}
	}
	return p.measured()
}

// against is the overhead of the named allocator in per cent, and the bytes that it gave back as per cent of those
// allocated.
func (p program) against(t *testing.T, name string) (over, back float64) {
	a, err := New(name, Options{Capacity: 256 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s, allocated := p.replay(t, a)
	return overhead(s, p.bound), 100 * float64(s.Returned) / float64(allocated)
}

const granulePercent = 100 * space.DeviceGranule

// TestRequestOverheads holds vlmem against best fit on requests of Qwen3-VL. It counts whole granules and best fit
// bytes, so it may lose one granule and the quarter point of recordings; requests over 512 MiB have to be better by a
// point.
func TestRequestOverheads(t *testing.T) {
	for _, model := range []string{"qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"} {
		for _, size := range [][2]int{{640, 480}, {1280, 720}, {1920, 1080}, {3840, 2160}} {
			p := request(t, model, workload.Options{Width: size[0], Height: size[1], PromptTokens: 30, DecodeTokens: 4})
			bestfit, _ := p.against(t, "bestfit")
			vlmem, back := p.against(t, "vlmem")
			t.Logf("%s (%d MiB): best fit %.2f, vlmem %.2f, %.1f returned", p.name, p.bound>>20, bestfit, vlmem, back)
			most := bestfit + .25 + granulePercent/float64(p.bound)
			if p.bound > 512<<20 {
				most = bestfit - 1
			}
			if vlmem > most {
				t.Errorf("%s: vlmem %.2f %% over the bound, best fit %.2f, so at most %.2f", p.name, vlmem, bestfit, most)
			}
		}
	}
}

// TestVariedRequests asks the same of 288, so that vlmem is not fitted to twelve: of those under 512 MiB one in twenty
// may lose more than a granule to best fit, and of those above none may lose anything. Where few granules are reserved
// none may reserve more than best fit in whole granules: that is what placeEarly promises.
func TestVariedRequests(t *testing.T) {
	if testing.Short() {
		t.Skip("288 requests")
	}
	small, missed := 0, 0
	var excess float64
	for _, o := range variedRequests() {
		for _, model := range []string{"qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"} {
			p := request(t, model, o)
			bestfit, _ := p.against(t, "bestfit")
			vlmem, _ := p.against(t, "vlmem")
			granules := (vlmem - bestfit) * float64(p.bound) / granulePercent
			if reserved := (1 + vlmem/100) * float64(p.bound); reserved < few*space.DeviceGranule && granules >= 1 {
				t.Errorf("%s (%d MiB): few granules, and %.1f over best fit's", p.name, p.bound>>20, granules)
			}
			if p.bound > 512<<20 {
				if granules > 0 {
					t.Errorf("%s (%d MiB): %.1f granules over best fit", p.name, p.bound>>20, granules)
				}
				continue
			}
			small++
			excess += granules
			if granules > 1 {
				missed++
				t.Logf("%s (%d MiB): %.1f granules over best fit", p.name, p.bound>>20, granules)
			}
		}
	}
	t.Logf("of %d requests under 512 MiB %d lose more than a granule to best fit; in the mean %.2f granules", small,
		missed, excess/float64(small))
	if 20*missed > small {
		t.Error("too many")
	}
}

func variedRequests() (list []workload.Options) {
	for _, size := range [][2]int{{224, 224}, {256, 256}, {320, 240}, {400, 300}, {480, 360}, {512, 512}, {560, 420},
		{640, 480},
		{720, 576}, {800, 600}, {1024, 768}, {1280, 720}, {1600, 900}, {1920, 1080}, {2560, 1440}, {3840, 2160}} {
		for _, prompt := range []int{30, 300, 1000} {
			for _, decode := range []int{1, 8} {
				list = append(list, workload.Options{Width: size[0], Height: size[1], PromptTokens: prompt, DecodeTokens: decode})
			}
		}
	}
	return list
}

// TestCapacityIsOfBothPools fills the general pool and asks for more in the other.
func TestCapacityIsOfBothPools(t *testing.T) {
	a, err := New("vlmem", Options{Capacity: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	general, err := a.Alloc(Request{Size: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	cache := Request{Size: 30 << 20, Pool: KVCachePool}
	if _, err := a.Alloc(cache); !errors.Is(err, ErrOutOfMemory) {
		t.Fatalf("70 MiB of 64: %v", err)
	}
	if err := a.Free(general); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Alloc(cache); err != nil {
		t.Fatalf("with the general pool idle: %v", err)
	}
	if s := a.Stats(); s.PeakReserved > 64<<20 {
		t.Errorf("%d bytes reserved", s.PeakReserved)
	}
	if err := a.Check(); err != nil {
		t.Error(err)
	}
}
