package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/watch"
)

// cardWatch is a watch over a host at rest and the cards that are found.
type cardWatch struct {
	t         *testing.T
	w         *watch.Watcher
	out, said bytes.Buffer
}

func newCardWatch(t *testing.T, library string) *cardWatch {
	c := &cardWatch{t: t}
	env := &environment{stdin: strings.NewReader(""), stdout: &c.out, stderr: &c.said,
		lookup: func(string) (string, bool) { return "", false }}
	o := watchOptions{root: newFakeMachine(t).root, interval: 1e9, out: output{format: "text", formats: []string{"text"}}}
	w, err := o.watcher(env)
	if err != nil {
		t.Fatal(err)
	}
	w.Cards = &watch.Cards{Library: library, Management: "absent"}
	c.w = w
	return c
}

// step takes a reading and returns what it wrote to stdout, the first line alone.
func (c *cardWatch) step() string {
	c.t.Helper()
	c.out.Reset()
	if _, err := c.w.Step(context.Background()); err != nil {
		c.t.Fatal(err)
	}
	line, _, _ := strings.Cut(c.out.String(), "\n")
	return line
}

// smiSays puts an nvidia-smi first on PATH that prints the file it returns, or fails with the words in it.
func smiSays(t *testing.T) (say func(text string)) {
	t.Helper()
	folder := t.TempDir()
	answer := filepath.Join(folder, "answer")
	script := "#!/bin/sh\nif grep -q nvidia_smi_log " + answer + "; then cat " + answer + "; else cat " + answer +
		"; exit 15; fi\n"
	if err := os.WriteFile(filepath.Join(folder, "nvidia-smi"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return func(text string) {
		if err := os.WriteFile(answer, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// smiLog is what nvidia-smi -q -x says of cards of 8,192 MiB.
func smiLog(free ...int) string {
	text := "<?xml version=\"1.0\" ?>\n<nvidia_smi_log><driver_version>580.95.05</driver_version>"
	for i, mib := range free {
		text += fmt.Sprintf("<gpu id=\"00000000:0%d:00.0\"><fb_memory_usage><total>8192 MiB</total><used>0 MiB</used>"+
			"<free>%d MiB</free></fb_memory_usage></gpu>", i, mib)
	}
	return text + "</nvidia_smi_log>\n"
}

// TestWatchFollowsCardsThroughSMI lets the second card fill up, nvidia-smi fail while it is full, and the card empty
// again.
func TestWatchFollowsCardsThroughSMI(t *testing.T) {
	say := smiSays(t)
	c := newCardWatch(t, "")
	for i, s := range []struct{ says, want string }{
		{smiLog(8000, 8000), "low: host 100 MiB of 1000 MiB (10 %)"},
		{smiLog(8000, 4096), "low -> medium: device 1 4 GiB of 8 GiB (50 %)"},
		{smiLog(8000, 1024), "medium -> high: device 1 7 GiB of 8 GiB (88 %)"},
		{smiLog(8000, 1800), ""}, // within the hysteresis
		{"Unable to determine the device handle for GPU0000:01:00.0: Unknown Error\n", ""},
		{"<nvidia_smi_log", ""},
		{smiLog(8000), ""}, // off the bus
		{strings.NewReplacer("8192 MiB", "N/A", "<free>0 MiB", "<free>N/A").Replace(smiLog(8000, 0)), ""},
		{strings.ReplaceAll(smiLog(8000, 0), "8192", "0"), ""},
		{smiLog(8000, 8000), "high -> low: host 100 MiB of 1000 MiB (10 %)"},
	} {
		if say(s.says); c.step() != s.want {
			t.Errorf("reading %d: %q, want %q", i, c.out.String(), s.want)
		}
	}
	said := c.said.String()
	for _, want := range []string{
		"the cards' last reading stands: running nvidia-smi: exit status 15: Unable to determine",
		"stands: reading nvidia-smi's XML", "device 1 cannot be read (listed no more): its last reading stands",
		"device 1 cannot be read (no size is told): its last", "0 of 0 bytes free are no sizes"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q among\n%s", want, said)
		}
	}
}

// TestWatchTakesNoFailureForRelief gives one card of two no number: its last reading stands, and before there is one
// the level is not known.
func TestWatchTakesNoFailureForRelief(t *testing.T) {
	say := smiSays(t)
	failing := func(text string) string { return strings.ReplaceAll(smiLog(8000, 1024), "1024 MiB", text) }
	c := newCardWatch(t, "")
	for i, s := range []struct{ says, want string }{
		{smiLog(8000, 1024), "high: device 1 7 GiB of 8 GiB (88 %)"},
		{failing("Unknown Error"), ""},
		{failing("ERR!"), ""},
		{smiLog(8000, 8000), "high -> low: host 100 MiB of 1000 MiB (10 %)"},
	} {
		if say(s.says); c.step() != s.want {
			t.Errorf("reading %d: %q, want %q", i, c.out.String(), s.want)
		}
	}
	if said := c.said.String(); !strings.Contains(said,
		"device 1 cannot be read (Unknown Error): its last reading stands") {
		t.Errorf("said %q", said)
	}
	for _, test := range []struct {
		says string
		code int
	}{
		{failing("Insufficient Permissions"), exitInconclusive}, {failing("N/A"), 0}, {smiLog(8000, 8000), 0},
	} {
		say(test.says)
		c := newCardWatch(t, "")
		c.w.Once = true
		_, err := c.w.Step(context.Background())
		if (err != nil) != (test.code != 0) || err != nil && exitCode(err) != test.code {
			t.Errorf("%s: %v", test.says, err)
		}
	}
}

// TestWatchFollowsPartsOfACard: a divided card's parts have memory of their own, and no right to read the whole is no
// blindness.
func TestWatchFollowsPartsOfACard(t *testing.T) {
	say := smiSays(t)
	part := func(index, free int) string {
		return fmt.Sprintf("<mig_device><index>%d</index><fb_memory_usage><total>1000 MiB</total><free>%d MiB</free>"+
			"</fb_memory_usage></mig_device>", index, free)
	}
	say(strings.Replace(strings.ReplaceAll(smiLog(0), "8192 MiB", "Insufficient Permissions"), "<fb_memory",
		"<mig_devices>"+part(0, 900)+part(1, 100)+"</mig_devices><fb_memory", 1))
	c := newCardWatch(t, "")
	c.w.Once = true
	if got := c.step(); got != "high: device 0 part 1 900 MiB of 1000 MiB (90 %)" {
		t.Errorf("says %q", got)
	}
	if said := c.said.String(); !strings.Contains(said,
		"device 0 cannot be read (Insufficient Permissions): its parts are") {
		t.Errorf("said %q", said)
	}
}

// TestWatchFollowsACardThatIsDivided: what is no more of a card that answers is over, and where all cards fall silent,
// nvidia-smi itself with them, nothing is.
func TestWatchFollowsACardThatIsDivided(t *testing.T) {
	say := smiSays(t)
	divided := strings.Replace(smiLog(8000), "<fb_memory", "<mig_devices><mig_device><index>0</index><fb_memory_usage>"+
		"<total>1000 MiB</total><free>100 MiB</free></fb_memory_usage></mig_device></mig_devices><fb_memory", 1)
	c := newCardWatch(t, "absent")
	for i, s := range []struct{ says, want string }{
		{smiLog(1024), "high: device 0 7 GiB of 8 GiB (88 %)"},
		{strings.ReplaceAll(divided, "100 MiB", "990 MiB"), "high -> low: host 100 MiB of 1000 MiB (10 %)"},
		{divided, "low -> high: device 0 part 0 900 MiB of 1000 MiB (90 %)"},
		{smiLog(8000), "high -> low: host 100 MiB of 1000 MiB (10 %)"},
		{smiLog(1024), "low -> high: device 0 7 GiB of 8 GiB (88 %)"},
	} {
		if say(s.says); c.step() != s.want {
			t.Errorf("reading %d: %q, want %q", i, c.out.String(), s.want)
		}
	}
	if c.said.Len() > 0 {
		t.Errorf("said %q", c.said.String())
	}
	t.Setenv("PATH", t.TempDir())
	if got := c.step(); got != "" || !strings.Contains(c.said.String(), "the cards' last reading stands: ") {
		t.Errorf("no nvidia-smi any more: %q, said %q", got, c.said.String())
	}
}

// retain is another program's context on the first card of a driver.
func retain(t *testing.T, path string) *cuda.Context {
	t.Helper()
	driver, err := cuda.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := driver.Retain(0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestWatchFollowsCardsThroughTheDriver has no nvidia-smi: another program's allocations are seen in the driver's free
// memory.
func TestWatchFollowsCardsThroughTheDriver(t *testing.T) {
	const mib = 1 << 20
	lib := standin.Build(t, standin.Options{Card: "mx350", Memory: 1000 * mib, Fail: []string{"cuMemGetInfo_v2:4:999"}})
	t.Setenv("PATH", t.TempDir())
	c := newCardWatch(t, lib.Path)
	other := retain(t, lib.Path)
	var held []cuda.Ptr
	take := func(n int64) {
		p, err := other.Alloc(n)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, p)
	}
	release := func() {
		for _, p := range held {
			if err := other.Free(p); err != nil {
				t.Fatal(err)
			}
		}
		held = nil
	}
	for i, s := range []struct {
		do   func()
		want string
	}{
		{func() {}, "low: host 100 MiB of 1000 MiB (10 %)"},
		{func() { take(400 * mib) }, "low -> medium: device 0 400 MiB of 1000 MiB (40 %)"},
		{func() { take(450 * mib) }, "medium -> high: device 0 850 MiB of 1000 MiB (85 %)"},
		{release, ""}, // the driver fails: the last reading stands
		{func() {}, "high -> low: host 100 MiB of 1000 MiB (10 %)"},
	} {
		s.do()
		if got := c.step(); got != s.want {
			t.Errorf("reading %d: %q, want %q", i, got, s.want)
		}
	}
	if said := c.said.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "last reading stands: ") {
		t.Errorf("said %q", said)
	}
	if err := c.w.Cards.Close(); err != nil {
		t.Error(err)
	}
	if err := other.Release(); err != nil {
		t.Error(err)
	}
	if leaks := lib.Leaks(t); leaks != "clean" {
		t.Errorf("left behind: %s", leaks)
	}
}

// Cards that cannot be asked leave the rest of the machine to be watched.
func TestWatchWithoutCards(t *testing.T) {
	for name, c := range map[string]struct {
		options standin.Options
		said    string
	}{
		"no device": {standin.Options{Card: "none"}, ""},
		"no context": {standin.Options{Card: "mx350", Fail: []string{"cuDevicePrimaryCtxRetain:1:2:sticky"}},
			"out of memory"},
	} {
		t.Run(name, func(t *testing.T) {
			lib := standin.Build(t, c.options)
			t.Setenv("PATH", t.TempDir())
			cards := newCardWatch(t, lib.Path)
			if got := cards.step(); got != "low: host 100 MiB of 1000 MiB (10 %)" {
				t.Errorf("got %q", got)
			}
			cards.step()
			if said := cards.said.String(); (c.said == "") != (said == "") || !strings.Contains(said, c.said) ||
				strings.Count(said, "\n") > 1 {
				t.Errorf("said %q", said)
			}
			if err := cards.w.Cards.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWatchFollowsCardsThroughNVML has both NVML and an nvidia-smi, which is not asked: a card that fails keeps its
// last reading, and the parts of a divided one count in its stead.
func TestWatchFollowsCardsThroughNVML(t *testing.T) {
	smiSays(t)("nvidia-smi was run\n")
	c := newCardWatch(t, "")
	c.w.Cards.Management = standin.Management(t)
	if got := c.step(); got != "medium: device 0 19 GiB of 24 GiB (79 %)" {
		t.Errorf("got %q", got)
	}
	t.Setenv("VLMEM_NVML_MEMORY", "15")
	if got := c.step(); got != "" {
		t.Errorf("a lost card: %q", got)
	}
	if said := c.said.String(); strings.Contains(said, "nvidia-smi") ||
		!strings.Contains(said, "device 0 cannot be read (GPU is lost): its last reading stands") {
		t.Errorf("said %q", said)
	}
	if err := c.w.Cards.Close(); err != nil {
		t.Error(err)
	}
}
