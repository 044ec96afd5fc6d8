package main

import (
	"github.com/schollz/progressbar/v3"
)

// progress draws a bar on stderr where that is a terminal, and nothing elsewhere.
type progress struct{ bar *progressbar.ProgressBar }

func (env *environment) progress(what string) *progress {
	if !isTerminal(env.stderr) {
		return &progress{}
	}
	return &progress{progressbar.NewOptions(1,
		progressbar.OptionSetWriter(env.stderr), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionSetTheme(progressbar.ThemeASCII))}
}

// set shows done of so many steps.
func (p *progress) set(done, of int) {
	if p.bar != nil {
		p.bar.ChangeMax(of)
		_ = p.bar.Set(done) // a bar that cannot be drawn is no reason to stop
	}
}

// close takes the bar away.
func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
