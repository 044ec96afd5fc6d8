package trace

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func readAll(text string) (*Trace, error) {
	r, err := NewReader(strings.NewReader(text), "t.vlmt")
	if err != nil {
		return nil, err
	}
	return r.ReadAll()
}

func TestReadText(t *testing.T) {
	got, err := readAll(`vlmem-trace 1 name="two blocks" frees=deferred
# ids are any numbers, unique among the live
t 1 "model.py:54 forward"
m 1 10
a 9000000000000 4096 2 kv_cache 1 1500
a 7 1
u 7 3
f 9000000000000 2 2500
s *
c 9000000000000 2600
a 9000000000000 512
end 8
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Trace{Name: "two blocks", Slots: 2, Tags: []string{"", "model.py:54 forward"}, Events: []Event{
		{Op: OpMark, Tag: 1, TimeNs: 10},
		{Op: OpAlloc, Slot: 0, Size: 4096, Stream: 2, Kind: KVCache, Tag: 1, TimeNs: 1500},
		{Op: OpAlloc, Slot: 1, Size: 1},
		{Op: OpUse, Slot: 1, Stream: 3},
		{Op: OpFree, Slot: 0, Stream: 2, TimeNs: 2500},
		{Op: OpSync, Stream: AllStreams},
		{Op: OpFreeCompleted, Slot: 0, TimeNs: 2600},
		{Op: OpAlloc, Slot: 0, Size: 512},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestReadTextRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "t.vlmt: the file is empty"},
		{"hello\n", `t.vlmt:1: not a trace: want a first line "vlmem-trace 1"`},
		{"vlmem-trace 2\n", `t.vlmt:1: trace format "2": this vlmem reads 1`},
		{"vlmem-trace 1 size=2\n", `t.vlmt:1: header "size=2": want frees=deferred, start=N or name="…"`},
		{"vlmem-trace 1\n", "t.vlmt:1: the trace ends without its end line: the file was cut short"},
		{"vlmem-trace 1\na 1 8\nf 1\nf 1\nend 3\n",
			"t.vlmt:4: free of id 1, which is not live: a double free, or a block that was never allocated"},
		{"vlmem-trace 1\nf 5\nend 1\n",
			"t.vlmt:2: free of id 5, which is not live: a double free, or a block that was never allocated"},
		{"vlmem-trace 1\na 1 -8\nend 1\n", `t.vlmt:2: size "-8": want a whole number that is not negative`},
		{"vlmem-trace 1\na 1 0\nend 1\n", "t.vlmt:2: size 0: want at least 1 byte and less than 2^63"},
		{"vlmem-trace 1\na 1 9223372036854775808\nend 1\n",
			"t.vlmt:2: size 9223372036854775808: want at least 1 byte and less than 2^63"},
		{"vlmem-trace 1\na 1 18446744073709551616\nend 1\n",
			`t.vlmt:2: size "18446744073709551616": want a whole number that is not negative`},
		{"vlmem-trace 1\na 1 8\na 1 8\nend 2\n", "t.vlmt:3: allocation of id 1, which is live"},
		{"vlmem-trace 1\na 1 8 65535\nend 1\n", "t.vlmt:2: stream 65535 is above 65534"},
		{"vlmem-trace 1\na 1 8 0 heap\nend 1\n",
			`t.vlmt:2: kind "heap": want one of general, kv_cache, vision_features, text_embeddings, stream, pinned`},
		{"vlmem-trace 1\na 1 8 0 general 1\nend 1\n", "t.vlmt:2: tag 1 is not defined before its use"},
		{"vlmem-trace 1\nt 2 \"x\"\nend 0\n", "t.vlmt:2: tag 2: tags are numbered in order, want 1"},
		{"vlmem-trace 1\nc 1\nend 1\n", "t.vlmt:2: id 1 is not live"},
		{"vlmem-trace 1\na 1 8\nc 1\nend 2\n", "t.vlmt:3: id 1: completion of slot 0, which is not waiting for one"},
		{"vlmem-trace 1 frees=deferred\na 1 8\nf 1\na 1 8\nend 3\n", "t.vlmt:4: allocation of id 1, which is live"},
		{"vlmem-trace 1\nu 1 2\nend 1\n", "t.vlmt:2: id 1 is not live"},
		{"vlmem-trace 1\nx 1\nend 1\n", `t.vlmt:2: unknown operation "x": want a, f, c, u, s, m, t, oom or end`},
		{"vlmem-trace 1\na 1 8 0 general 0 5 6 7\nend 1\n", `t.vlmt:2: "7" after the last field`},
		{"vlmem-trace 1\na 1 8\nend 2\n", "t.vlmt:3: the end line counts 2 events, the file holds 1"},
		{"vlmem-trace 1\na 1 8\nf 1\nend 1\n", "t.vlmt:4: the end line counts 1 events, the file holds 2"},
		{"vlmem-trace 1\nend 0\na 1 8\n", "t.vlmt:3: a line after the end line"},
		{"vlmem-trace 1\na 1 " + strings.Repeat("8", 1<<17) + "\nend 1\n",
			"t.vlmt:2: a line longer than 64 KiB: not a trace"},
	} {
		_, err := readAll(c.text)
		if err == nil || err.Error() != c.want {
			t.Errorf("%.60q\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// anyTrace draws a trace that a program could have done.
func anyTrace(r *rapid.T) *Trace {
	b := NewBuilder(rapid.String().Draw(r, "name"))
	t := b.Trace()
	deferred := rapid.Bool().Draw(r, "deferred")
	now := int64(0)
	var live []uint32
	for range rapid.IntRange(0, 40).Draw(r, "events") {
		now += rapid.Int64Range(0, 1000).Draw(r, "pause")
		b.At(now)
		switch k := rapid.IntRange(0, 5).Draw(r, "op"); {
		case k < 2 || len(live) == 0:
			tag := b.Tag(rapid.SampledFrom([]string{"", "a b", "\"\n", "ü"}).Draw(r, "tag"))
			live = append(live, b.Alloc(rapid.Int64Range(1, 1<<62).Draw(r, "size"),
				Kind(rapid.IntRange(0, int(kinds)-1).Draw(r, "kind")), rapid.Uint16Range(0, AllStreams-1).Draw(r, "stream"), tag))
		case k == 2:
			t.Events = append(t.Events, Event{Op: OpUse, Slot: live[0], Stream: 1, TimeNs: now},
				Event{Op: OpSync, Stream: AllStreams, TimeNs: now})
		case k == 3:
			b.Mark("phase")
		default:
			if slot := live[0]; deferred {
				t.Events = append(t.Events, Event{Op: OpFree, Slot: slot, TimeNs: now})
				t.Events = append(t.Events, Event{Op: OpFreeCompleted, Slot: slot, TimeNs: now})
			} else {
				b.Free(slot, 3)
			}
			live = live[1:]
		}
	}
	return b.Trace()
}

// What is written reads back as the same program: slots are renumbered alike, since both hand out the last freed first.
func TestTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		want := anyTrace(r)
		if err := want.Validate(); err != nil {
			r.Fatal(err)
		}
		var text bytes.Buffer
		if err := want.Write(&text); err != nil {
			r.Fatal(err)
		}
		got, err := readAll(text.String())
		if err != nil {
			r.Fatalf("%v in\n%s", err, text.String())
		}
		var again bytes.Buffer
		if err := got.Write(&again); err != nil {
			r.Fatal(err)
		}
		if len(got.Events) != len(want.Events) || got.Name != want.Name || !want.Deferred() &&
			!reflect.DeepEqual(got.Events, want.Events) {
			r.Fatalf("got %+v\nwant %+v\n%s", got, want, text.String())
		}
		if got.Info(5).LowerBound != want.Info(5).LowerBound {
			r.Fatalf("lower bound %d, want %d", got.Info(5).LowerBound, want.Info(5).LowerBound)
		}
	})
}

// Every prefix of a file is refused as cut short, wherever it ends.
func TestCutShort(t *testing.T) {
	b := NewBuilder("x")
	b.Free(b.Alloc(4096, KVCache, 1, b.Tag("site")), 1)
	var text bytes.Buffer
	if err := b.Trace().Write(&text); err != nil {
		t.Fatal(err)
	}
	whole := strings.TrimSuffix(text.String(), "\n")
	for n := range len(whole) {
		if _, err := readAll(whole[:n]); err == nil {
			t.Errorf("the first %d bytes read as a whole trace: %q", n, whole[:n])
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for _, c := range []struct {
		events []Event
		want   string
	}{
		{[]Event{{Op: OpFree}}, "event 0: free of slot 0, which is not live: a double free, or a block that was never " +
			"allocated"},
		{[]Event{{Op: OpAlloc, Size: -1}}, "event 0: allocation of -1 bytes: want at least 1"},
		{[]Event{{Op: OpAlloc, Size: 1}, {Op: OpAlloc, Size: 1}}, "event 1: allocation in slot 0, which is live"},
		{[]Event{{Op: OpAlloc, Size: 1, Tag: 1}}, "event 0: tag 1 is not in the table of 1"},
		{[]Event{{Op: OpAlloc, Size: 1, Kind: kinds}}, "event 0: unknown kind 6"},
		{[]Event{{Op: OpMark, TimeNs: -5}}, "event 0: time -5 ns: want one that is not negative"},
		{[]Event{{}}, "event 0: unknown operation 0"},
	} {
		w, err := NewWriter(io.Discard, "", false)
		for _, e := range c.events {
			if err == nil {
				err = w.Write(e)
			}
		}
		if err == nil || err.Error() != c.want {
			t.Errorf("%+v\n got %v\nwant %s", c.events, err, c.want)
		}
	}
}

// endless is a trace of n events with 1,000 blocks live, made as it is read.
type endless struct {
	left int64
	id   uint64
	w    *Writer
	out  bytes.Buffer
}

func (e *endless) Read(p []byte) (int, error) {
	for e.out.Len() == 0 {
		if e.left < 0 {
			return 0, io.EOF
		}
		if e.w == nil {
			e.w, _ = NewWriter(&e.out, "", false)
		}
		for i := 0; i < 2000 && e.left > 0; i++ {
			slot := uint32(e.id % 1000)
			if e.id >= 1000 {
				_ = e.w.Write(Event{Op: OpFree, Slot: slot})
				e.left--
			}
			_ = e.w.Write(Event{Op: OpAlloc, Slot: slot, Size: 4096})
			e.id++
			e.left--
		}
		if e.left <= 0 {
			_ = e.w.Close()
			e.left = -1
		}
	}
	return e.out.Read(p)
}

// Memory does not grow with the length of a stream.
func TestStreamIsBounded(t *testing.T) {
	r, err := NewReader(&endless{left: 400_000}, "endless")
	if err != nil {
		t.Fatal(err)
	}
	allocations := testing.AllocsPerRun(1, func() {
		for range 100_000 {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocations > 2000 || r.Slots() != 1000 { // the writer's own buffers are among them
		t.Errorf("%v allocations and %d slots for 100,000 events with 1,000 blocks live", allocations, r.Slots())
	}
}

// 10^8 events need the memory of the 1,000 blocks that are live at once.
func TestHundredMillionEvents(t *testing.T) {
	if os.Getenv("VLMEM_LONG") == "" {
		t.Skip("set VLMEM_LONG to read 10^8 events")
	}
	r, err := NewReader(&endless{left: 100_000_000}, "endless")
	if err != nil {
		t.Fatal(err)
	}
	s, n := NewSurvey(), 0
	for e, err := range r.All() {
		if err != nil {
			t.Fatal(err)
		}
		s.Add(e)
		n++
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if n < 100_000_000 || r.Slots() != 1000 || m.HeapSys > 64<<20 {
		t.Errorf("%d events, %d slots, %d bytes of heap at most", n, r.Slots(), m.HeapSys)
	}
	if info := s.Info("", r.Tags(), 1); info.LowerBound != 4096*1000 {
		t.Errorf("lower bound %d", info.LowerBound)
	}
}

func FuzzReader(f *testing.F) {
	f.Add("vlmem-trace 1\nt 1 \"x\"\na 1 8 0 general 1 5\nf 1 0 6\nend 2\n")
	f.Add("vlmem-trace 1 frees=deferred name=\"n\"\na 1 8\nu 1 2\nf 1\ns *\nc 1\nend 5\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readAll(text)
		if err != nil {
			return
		}
		if err := got.Validate(); err != nil && !strings.Contains(text, "frees=deferred") {
			t.Fatalf("read an invalid trace: %v", err)
		}
		var out bytes.Buffer
		if err := got.Write(&out); err != nil && !errors.Is(err, io.EOF) && !strings.Contains(text, "frees=deferred") {
			t.Fatalf("cannot write what was read: %v", err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	events := int64(0)
	for b.Loop() {
		r, err := NewReader(&endless{left: 200_000}, "endless")
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range r.All() {
			if err != nil {
				b.Fatal(err)
			}
			events++
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

func TestValidateNamesWhatNoProgramDoes(t *testing.T) {
	l := NewLives(true)
	for _, e := range []Event{{Op: OpAlloc, Size: 8}, {Op: OpFree}} {
		if err := l.Check(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Check(Event{Op: OpAlloc, Size: 8}); err == nil ||
		!strings.Contains(err.Error(), "whose free is not complete") {
		t.Errorf("a slot before its free is complete: %v", err)
	}
	tagged := Trace{Name: "t", Tags: []string{""}, Slots: 1, Events: []Event{{Op: OpAlloc, Size: 8, Tag: 1}}}
	if err := tagged.Validate(); err == nil || !strings.Contains(err.Error(), "tag 1 is not in the table of 1") {
		t.Errorf("a tag one beyond the table: %v", err)
	}
}
