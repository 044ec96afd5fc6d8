package terminal

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// late is how long work may take before it is worth a bar.
const late = time.Second

// Progress draws a bar with the time that is left, where work lasts longer than a second; on a nil bar nothing.
type Progress struct{ bar *progressbar.ProgressBar }

// NewProgress is a bar on a terminal, and none elsewhere.
func NewProgress(w io.Writer, sheet Sheet, what string) *Progress {
	if sheet.Columns == 0 {
		return &Progress{}
	}
	room := sheet.Columns - len(what) - len(" 100% [] [10m00s:10m00s] ")
	return &Progress{progressbar.NewOptions(1,
		progressbar.OptionSetWriter(&after{w, time.Now().Add(late)}), progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(min(max(room, 2), 40)), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetTheme(progressbar.ThemeASCII), progressbar.OptionThrottle(100*time.Millisecond))}
}

// Set shows done of so many steps.
func (p *Progress) Set(done, of int) {
	if p.bar != nil {
		p.bar.ChangeMax(of)
		_ = p.bar.Set(done) // a bar that cannot be drawn is no reason to stop
	}
}

// Close takes the bar away.
func (p *Progress) Close() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}

// after drops what is written before a moment.
type after struct {
	io.Writer
	from time.Time
}

func (a *after) Write(p []byte) (int, error) {
	if time.Now().Before(a.from) {
		return len(p), nil
	}
	return a.Writer.Write(p)
}
