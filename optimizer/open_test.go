package optimizer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// advised is a configuration of advise without a card, with replacements made in it.
func advised(t testing.TB, replace ...string) string {
	t.Helper()
	return edited(t, "advise_i5-10210u_qwen3-vl-4b.yaml", replace...)
}

func edited(t testing.TB, file string, replace ...string) string {
	t.Helper()
	data, err := os.ReadFile("../cmd/vlmem/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(replace); i += 2 {
		next := regexp.MustCompile(replace[i]).ReplaceAllString(text, replace[i+1])
		if next == text {
			t.Fatalf("%q is not in the configuration", replace[i])
		}
		text = next
	}
	return text
}

// small makes every pool begin with 1 MiB and grow by 4.
var small = []string{`initial_bytes: \d+`, "initial_bytes: 1048576", `grow_bytes: \d+`, "grow_bytes: 4194304",
	`max_bytes: \d+`, "max_bytes: 268435456"}

// signTensor writes a tensor's number at both ends of it, which verifyTensor looks for.
func signTensor(x *Tensor, n uint64) error {
	return x.Use(func(b []byte) error {
		binary.LittleEndian.PutUint64(b, n)
		binary.LittleEndian.PutUint64(b[len(b)-8:], ^n)
		return nil
	})
}

func verifyTensor(x *Tensor, n uint64) error {
	return x.Use(func(b []byte) error {
		if binary.LittleEndian.Uint64(b) != n || binary.LittleEndian.Uint64(b[len(b)-8:]) != ^n {
			return fmt.Errorf("%v tensor %d of %d bytes holds another's contents", x.Kind, n, len(b))
		}
		return nil
	})
}

// The 10,000 tensors of all kinds keep their contents while pools grow past ten spaces and are compacted.
func TestTenThousandTensors(t *testing.T) {
	o, err := Open(strings.NewReader(advised(t, small...)))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	live, next := map[uint64]*Tensor{}, uint64(0)
	random := rand.New(rand.NewPCG(1, 0))
	kinds := []Kind{General, KVCache, VisionFeatures, TextEmbeddings}
	for range 10_000 {
		x, err := o.Allocate([]int{1 + random.IntN(4), 4 + random.IntN(5<<11)}, FP32, kinds[random.IntN(4)])
		if err != nil {
			t.Fatal(err)
		}
		if err := signTensor(x, next); err != nil {
			t.Fatal(err)
		}
		live[next] = x
		next++
		for n, old := range live { // in no order, a tenth more than goes in
			if len(live) < 4000 || random.IntN(10) == 0 {
				break
			}
			if err := errors.Join(verifyTensor(old, n), o.Free(old)); err != nil {
				t.Fatal(err)
			}
			delete(live, n)
		}
	}
	for _, s := range o.Statistics() {
		if s.Spaces <= 10 {
			t.Errorf("%v has %d spaces, want more than ten", s.Kind, s.Spaces)
		}
	}
	moves, err := o.Compact()
	if err != nil || len(moves) != 1 || moves[0].Kind != TextEmbeddings || moves[0].After >= moves[0].Before {
		t.Errorf("compacting: %+v, %v", moves, err)
	}
	for n, x := range live {
		if err := errors.Join(verifyTensor(x, n), o.Free(x)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range o.Statistics() {
		if s.Requested != 0 {
			t.Errorf("%v: %d bytes live in the end", s.Kind, s.Requested)
		}
	}
}

// Eight goroutines allocate, write, check and free, while a ninth compacts and feeds pressure.
func TestEightGoroutines(t *testing.T) {
	o, err := Open(strings.NewReader(advised(t, small...)), Collect(func() {}))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 1))
			var held []*Tensor
			for range 1250 {
				x, err := o.Allocate([]int{1 + random.IntN(1<<14)}, INT8, Kind(random.IntN(4)))
				if err != nil {
					t.Error(err)
					return
				}
				if err := x.Use(func(b []byte) error { copy(b, bytes.Repeat([]byte{byte(g)}, len(b))); return nil }); err != nil {
					t.Error(err)
				}
				held = append(held, x)
				if len(held) < 30 {
					continue
				}
				i := random.IntN(len(held))
				err = held[i].Use(func(b []byte) error {
					if len(bytes.Trim(b, string([]byte{byte(g)}))) > 0 {
						return fmt.Errorf("a tensor of goroutine %d was written by another", g)
					}
					return nil
				})
				if err := errors.Join(err, o.Free(held[i])); err != nil {
					t.Error(err)
				}
				held[i] = held[len(held)-1]
				held = held[:len(held)-1]
			}
			for _, x := range held {
				if err := o.Free(x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 40 {
		if _, err := o.Compact(); err != nil {
			t.Error(err)
		}
		if _, err := o.Feed(at("host", []int{10, 95}[i%2])); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	for _, s := range o.Statistics() {
		if s.Requested != 0 {
			t.Errorf("%v: %d bytes live", s.Kind, s.Requested)
		}
	}
}

// With growth by spaces the second tensor lies in the second space: its memory is its own.
func TestSecondSpace(t *testing.T) {
	for _, policy := range alloc.PolicyNames() {
		if policy == "plan" || policy == "fixed" {
			continue
		}
		o := plain()
		o.pools[General] = alloc.Config{Policy: policy, Max: 64 << 20, Grow: 4 << 20, Align: 64}
		m := opened(t, o)
		var list []*Tensor
		for i := range 6 {
			x, err := m.Allocate([]int{3 << 20}, INT8, General)
			if err != nil {
				t.Fatalf("%s: %v", policy, err)
			}
			for j := range x.Bytes() {
				x.Bytes()[j] = byte(i)
			}
			list = append(list, x)
		}
		for i, x := range list {
			if x.Bytes()[0] != byte(i) || x.Bytes()[3<<20-1] != byte(i) {
				t.Errorf("%s: tensor %d was overwritten", policy, i)
			}
		}
		if n := m.Statistics()[0].Spaces; n < 2 {
			t.Errorf("%s: %d spaces", policy, n)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		text, want string
	}{
		{"schema: vlmem/v1\nnonsense: 1\n", "nonsense"},
		{advised(t, "schema: vlmem/v1", "schema: vlmem/v9"), "vlmem/v9"},
		{advised(t, "policy: vlmem", "policy: slab"), `policy "slab": want vlmem, bestfit, buddy or fixed`},
		{advised(t, `defragment_above: \S+`, "defragment_above: 2"), "defragment_above 2: want above 0 and below 1"},
		{advised(t, `high: 0\.\d+`, "high: 0.01"), "want 0 < low < high < 1"},
		{advised(t, `initial_bytes: \d+`, "initial_bytes: 99999999999999"), "initial 99999999999999"},
		{edited(t, "advise_i5-10210u+mx350_qwen3-vl-2b.yaml"), "the configuration uses a card"},
	} {
		o, err := Open(strings.NewReader(c.text), Driver("/nonexistent/libcuda.so"))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if o != nil {
			t.Error("an optimizer came with an error")
		}
	}
}

// A configuration for a card runs in host memory when told so, its streams on threads.
func TestOnHost(t *testing.T) {
	o, err := Open(strings.NewReader(edited(t, "advise_i5-10210u+mx350_qwen3-vl-2b.yaml")), OnHost())
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for _, kind := range []Kind{General, KVCache, VisionFeatures, TextEmbeddings, Stream, Staging} {
		x, err := o.Make(Spec{Shape: []int{4, 4}, DType: FP32, Kind: kind})
		if err != nil {
			t.Fatalf("%v: %v", kind, err)
		}
		if len(x.Bytes()) != 64 || x.Place != Pageable {
			t.Errorf("%v: %d bytes in %v memory", kind, len(x.Bytes()), x.Place)
		}
		if err := o.Free(x); err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
	if _, err := o.Make(Spec{Shape: []int{4}, DType: FP32, Kind: Stream, Stream: 99}); err == nil ||
		!strings.Contains(err.Error(), "stream 99 is not among") {
		t.Errorf("a stream that is none: %v", err)
	}
}

// What the configuration places in two memories is served from both, each within its share; a tower in host memory has
// its features there.
func TestFollowsThePlacement(t *testing.T) {
	library := standin.Build(t, standin.Options{Memory: 4 << 30})
	const mib = 1 << 20
	config := edited(t, "advise_i5-10210u+mx350_qwen3-vl-2b.yaml", `initial_bytes: \d+`, "initial_bytes: 2097152",
		`(kv_cache:\n    policy: fixed.*\n(?:.*\n)??    max_bytes:) \d+`, "$1 67108864",
		`placement:\n(?s:.*?)\nspeed:`, "placement:\n  layers:\n    device_bytes: 1\n  kv_cache:\n    device_bytes: 3\n"+
			"    pageable_bytes: 1\n  tower:\n    pageable_bytes: 1\nspeed:")
	o, err := Open(strings.NewReader(config), Driver(library.Path))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := map[Place]int{}
	for {
		x, err := o.Allocate([]int{mib}, INT8, KVCache)
		if errors.Is(err, ErrOutOfMemory) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[x.Place]++
	}
	if got[Device] != 48 || got[Pageable] != 16 || len(got) != 2 {
		t.Errorf("MiB of the cache by place: %v, want 48 on the device and 16 pageable", got)
	}
	for kind, want := range map[Kind]Place{VisionFeatures: Pageable, General: Device} {
		if x, err := o.Allocate([]int{4}, FP32, kind); err != nil || x.Place != want {
			t.Errorf("%v lies in %v memory, want %v: %v", kind, x.Place, want, err)
		}
	}
}

func TestMisuse(t *testing.T) {
	first, second := opened(t, plain()), opened(t, plain())
	x, err := first.Allocate([]int{8}, FP32, General)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Free(x); !errors.Is(err, ErrForeign) {
		t.Errorf("freeing another's tensor: %v", err)
	}
	if err := first.Free(nil); !errors.Is(err, ErrNotLive) {
		t.Errorf("freeing nothing: %v", err)
	}
	if _, err := first.Allocate([]int{8}, FP32, Kind(77)); err == nil || !strings.Contains(err.Error(), "no such kind") {
		t.Errorf("a kind that is none: %v", err)
	}
	y, err := first.Allocate([]int{8}, FP32, General)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Free(y); err != nil {
		t.Fatal(err)
	}
	if err := y.Use(func([]byte) error { return nil }); !errors.Is(err, ErrNotLive) || y.Bytes() != nil {
		t.Errorf("using a freed tensor: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Free(x); !errors.Is(err, ErrClosed) {
		t.Errorf("freeing after Close: %v", err)
	}
	if x.Bytes() != nil {
		t.Error("a tensor has memory after Close")
	}
	if _, err := first.Feed(at("host", 50)); !errors.Is(err, ErrClosed) {
		t.Errorf("feeding after Close: %v", err)
	}
	if _, err := first.Compact(); !errors.Is(err, ErrClosed) {
		t.Errorf("compacting after Close: %v", err)
	}
}
