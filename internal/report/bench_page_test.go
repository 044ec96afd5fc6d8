package report

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/tiling/contest"
)

// page is a page with every section.
func page() Page {
	line := &replay.Timeline{Allocator: "vlmem", Pools: []string{"general", "kv_cache"}, PeakAt: 3,
		Phases: []replay.Phase{{Operation: 0, Name: "load"}, {Operation: 2, Name: "decode"}, {Operation: 3, Name: "decode"}},
		Sizes:  []replay.SizeBin{{Low: 512, Count: 3, Bytes: 1800}},
		Spans: []alloc.Span{{Size: 4096, Live: true, Committed: true}, {Offset: 4096, Size: 512, Committed: true},
			{Offset: 4608, Size: 1 << 40}},
		Curves: []replay.Curve{{Allocator: "vlmem"}, {Allocator: "best<fit"}},
		Holds:  []replay.Hold{{Site: "kv_cache.<keys>", Bytes: 4096, Blocks: 2}, {Site: "vision", Bytes: 1024, Blocks: 1}},
	}
	for i := range 4 {
		line.Points = append(line.Points, replay.Point{Operation: i, Live: int64(i) << 20, Reserved: 4 << 20,
			Pools: []int64{int64(i) << 19, int64(i) << 19}})
		line.Curves[0].Reserved = append(line.Curves[0].Reserved, 4<<20)
		line.Curves[1].Reserved = append(line.Curves[1].Reserved, int64(5+i)<<20)
	}
	h := staircaseOf().Hardware
	return Page{Bench: compared(), Against: "the <b> run", Granule: "2MiB", Machine: &h,
		Timelines: []NamedTimeline{{Name: "w", Limit: 8 << 20, Timeline: line}},
		Heat:      &contest.Heat{Rows: []int{32}, Columns: []int{8, 16}, Seconds: [][]float64{{1, math.NaN()}}}}
}

func renderPage(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	about := About{Command: "vlmem bench --model m&n", Version: "v9", Date: time.Date(2026, 11, 28, 1, 2, 0, 0, time.UTC)}
	if err := page().Write(&out, about); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPageHoldsEverythingAndAsksForNothing(t *testing.T) {
	text := renderPage(t)
	for _, want := range []string{"2026-11-28 01:02 UTC", "m&amp;n", "<dd>v9</dd>", "<dt>machine</dt><dd>laptop</dd>",
		"against the &lt;b&gt; run: ", "Against the saved run", "Reserved over the operations", "best&lt;fit",
		"The dashed line is",
		"4 KiB live, 512 B committed and free", "Who held memory", `"n":"kv_cache"`, "where the caches end",
		"Tiles of a matrix"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if found := regexp.MustCompile(`(?:src|href)="(?:https?:)?//[^"]*"|@import|url\(`).FindString(text); found != "" {
		t.Errorf("the page asks the network: %s", found)
	}
	if strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "NaN") {
		t.Error("the page holds a value that it cannot")
	}
}

// TestBenchChartsAreTidy, at both widths, and address maps do not leave their field.
func TestBenchChartsAreTidy(t *testing.T) {
	for _, s := range page().Timelines[0].sections(false) {
		for _, c := range s.Charts {
			tidy(t, c)
			for _, r := range c.Rects {
				if r.X < 0 || r.X+r.Width > c.Width+0.1 || r.Y+r.Height > c.Height {
					t.Errorf("%s: %+v leaves the field", s.Title, r)
				}
			}
		}
	}
}

// TestStandingSaysWhoReservesLeast, also where that is not vlmem.
func TestStandingSaysWhoReservesLeast(t *testing.T) {
	run := func(name string, reserved int64) replay.Summary {
		return replay.Summary{Workload: "w", Kind: replay.Addresses, Allocator: name, PeakReservedBytes: reserved,
			Overhead: float64(reserved)/100 - 1}
	}
	for want, runs := range map[string][]replay.Summary{
		"addresses only: bestfit reserves least, 4.0 % above the lower bound, vlmem 9.0 %; doubtful": {run("vlmem", 109),
			run("bestfit", 104)},
		"addresses only: vlmem reserves least, 2.0 % above the lower bound; good": {run("vlmem", 102),
			run("buddy", 140)},
		"addresses only: buddy reserves least, 40.0 % above the lower bound; good": {run("buddy", 140)},
	} {
		if text, tone := (Bench{Results: runs}).standing(""); text+"; "+tone != want {
			t.Errorf("got %s; %s, want %s", text, tone, want)
		}
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

// TestPagesInABrowser: at a desk's width and a telephone's no label is cut, none stands upon another, nothing is said
// on the console, and the icicle is drawn.
func TestPagesInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	check, err := os.ReadFile("testdata/boxes.js")
	if err != nil {
		t.Fatal(err)
	}
	var probe, estimate bytes.Buffer
	if err := MachinePage(&probe, About{Command: "vlmem probe"}, staircaseOf()); err != nil {
		t.Fatal(err)
	}
	mem := &engine.Memory{Model: "model", Device: "gpu", CardBytes: 100, Items: []engine.Item{{Name: "weights",
		Where: "device", Bytes: 90, Low: 80, High: 120, Why: strings.Repeat("why ", 40)}}}
	about := About{Command: "vlmem estimate"}
	err = EstimatePage(&estimate, about, mem, advise.Standing{Verdict: "fits"}, "machine", roofOf())
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{"bench": renderPage(t), "probe": probe.String(), "estimate": estimate.String()}
	for name, page := range pages {
		file := filepath.Join(t.TempDir(), name+".html")
		page = strings.Replace(page, "</body>", "<script>"+string(check)+"</script></body>", 1)
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, width := range []string{"1280", "400"} {
			dom := inBrowser(t, file, width)
			if _, found, _ := strings.Cut(dom, `<pre id="found">`); !strings.HasPrefix(found, "nothing</pre>") {
				t.Errorf("%s at %s: %.600s", name, width, found)
			}
			if name == "bench" && !strings.Contains(dom, `aria-label="kv_cache, 4 KiB"`) {
				t.Error("the icicle was not drawn")
			}
		}
	}
}

// inBrowser is the page as a browser has it once it is loaded.
func inBrowser(t *testing.T, file, width string) string {
	t.Helper()
	cmd := exec.Command(browser(t), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", "--window-size="+width+",2000", "--dump-dom",
		"file://"+file)
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
	return dom.String()
}
