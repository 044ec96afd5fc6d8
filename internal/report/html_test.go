package report

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
)

// page is a page with every section.
func page() Page {
	line := &replay.Timeline{Allocator: "vlmem", Pools: []string{"general", "kv_cache"}, PeakAt: 3,
		Phases: []replay.Phase{{Operation: 0, Name: "load"}, {Operation: 2, Name: "decode"}, {Operation: 3, Name: "decode"}},
		Sizes:  []replay.SizeBin{{Low: 512, Count: 3, Bytes: 1800}},
		Spans: []alloc.Span{{Size: 4096, Live: true, Committed: true}, {Offset: 4096, Size: 512, Committed: true},
			{Offset: 4608, Size: 1 << 40}},
	}
	for i := range 4 {
		line.Points = append(line.Points, replay.Point{Operation: i, Live: int64(i) << 20, Reserved: 4 << 20,
			Pools: []int64{int64(i) << 19, int64(i) << 19}})
	}
	h := &profile.Hardware{Measured: &profile.Measured{}}
	for i := range 12 {
		h.Measured.Latency = append(h.Measured.Latency, profile.LatencyPoint{Bytes: 4096 << i, Order: "page-local",
			Seconds: 1e-9 * math.Pow(1.6, float64(i))})
	}
	return Page{Title: "a <b> title", Bench: compared(),
		Timelines: []NamedTimeline{{Name: "w", Limit: 8 << 20, Timeline: line}}, Machine: h,
		Heat: []HeatMap{{Title: "Tiles", Corner: "block_q", Columns: []string{"8", "16"}, Rows: []string{"32"},
			Values: [][]float64{{1, math.NaN()}}, Format: "%.1f"}},
		Inputs: []Pair{{"model", "m & n"}}}
}

func renderPage(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	if err := page().Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPageHoldsEverythingAndAsksForNothing(t *testing.T) {
	text := renderPage(t)
	for _, want := range []string{"a &lt;b&gt; title", "m &amp; n", `data-allocator="vlmem" data-reserved="2048"`,
		"Against the saved run",
		"Memory over time: w", "below 30 % of it pressure is low", "4 KiB live, 512 B committed and free",
		"Latency of this machine", "Tiles", `id="plot-time0"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if found := regexp.MustCompile(`(?:src|href)="(?:https?:)?//[^"]*"|@import|url\(`).FindString(text); found != "" {
		t.Errorf("the page asks the network: %s", found)
	}
	if strings.Contains(text, "ZgotmplZ") {
		t.Error("the template dropped a value it took for unsafe")
	}
}

// browser finds a headless Chromium, or skips.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium to open the page in")
	return ""
}

func TestPageInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(renderPage(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(browser(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(), "--enable-logging=stderr", "--v=0",
		"--virtual-time-budget=2000", "--dump-dom", "file://"+file)
	var dom, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &dom, &log
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		t.Skipf("Chromium does not run here: %v", err)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "CONSOLE") {
			t.Errorf("the console says %s", strings.TrimSpace(line))
		}
	}
	if n := strings.Count(dom.String(), "<canvas"); n != 2 {
		t.Errorf("%d plots were drawn, want 2", n)
	}
	for _, id := range []string{"results", "comparison", "time0", "pools0", "map0", "sizes0", "latency", "inputs"} {
		if !strings.Contains(dom.String(), fmt.Sprintf("id=%q", id)) {
			t.Errorf("no element %s", id)
		}
	}
}
