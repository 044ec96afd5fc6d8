package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

type watchOptions struct {
	root, config, until, command string
	listen                       string
	interval, timeout            time.Duration
	once                         bool
	out                          output
}

// levels are the names that --until takes.
var levels = []string{pressure.Low.String(), pressure.Medium.String(), pressure.High.String()}

func newWatchCmd(env *environment) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow the pressure on memory, with advice in words",
		Long: `watch reads what is used of the host's memory, of the tightest control group and of each card, and the kernel's stall
counters, and says which level they make: low, medium or high. A line is written when the level changes; on a terminal
the present state stands below. Thresholds are the seeds' unless --config names a configuration of advise.

--until ends it at a level, for scripts; --exec runs a command at each change, with VLMEM_LEVEL, VLMEM_PREVIOUS,
VLMEM_BUDGET, VLMEM_USED_BYTES and VLMEM_LIMIT_BYTES in its environment. With --format prometheus and -o FILE the file
is replaced at every reading, as node_exporter's textfile collector wants it. --listen serves the last reading to Prometheus under
/metrics; nothing listens without it.`,
		Example: `  vlmem watch --config config.yaml
  vlmem watch --until high --timeout 10m && kill -USR1 $SERVER
  vlmem watch --format prometheus -o /var/lib/node_exporter/vlmem.prom
  vlmem watch --listen 9851 --interval 5s`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runWatch(env, cmd.Context(), &o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.root, "root", "/", "read /proc and /sys below this folder")
	flags.StringVar(&o.config, "config", "", "take the thresholds from this configuration")
	flags.StringVar(&o.until, "until", "", "end with 0 when the level is at least this: "+strings.Join(levels[1:],
		", ")+"; or falls back to low")
	flags.StringVar(&o.command, "exec", "", "run this shell command at each change of level")
	flags.DurationVar(&o.interval, "interval", time.Second, "time between two readings")
	flags.DurationVar(&o.timeout, "timeout", 0,
		"end after this time; with --until, exit 1 where the level was not reached")
	flags.BoolVar(&o.once, "once", false, "read once and end")
	flags.StringVar(&o.listen, "listen", "",
		"serve Prometheus at this port of the loopback, or as :PORT at all addresses, or as ADDRESS:PORT")
	_ = cmd.RegisterFlagCompletionFunc("until", cobra.FixedCompletions(levels, cobra.ShellCompDirectiveNoFileComp))
	o.out.addFlags(cmd, "text", "prometheus", "json")
	return cmd
}

func runWatch(env *environment, ctx context.Context, o *watchOptions) error {
	w, err := o.watcher(env)
	if err != nil {
		return err
	}
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.timeout)
		defer cancel()
	}
	ticks := time.NewTicker(o.interval)
	defer ticks.Stop()
	if o.listen != "" {
		if w.exporter, err = listen(o.listen); err != nil {
			return err
		}
	}
	err = errors.Join(w.run(ctx, ticks.C), w.exporter.close())
	if w.cards != nil {
		err = errors.Join(err, w.cards.close())
	}
	return err
}

// watcher checks the options and starts at the low level.
func (o *watchOptions) watcher(env *environment) (*watcher, error) {
	switch {
	case o.interval < 10*time.Millisecond:
		return nil, fmt.Errorf("--interval %s: want at least 10ms", o.interval)
	case o.listen != "" && o.once:
		return nil, errors.New("--once ends before anybody could ask --listen: drop one")
	case o.timeout < 0:
		return nil, fmt.Errorf("--timeout %s: want above 0", o.timeout)
	case o.until != "" && !slices.Contains(levels, o.until):
		return nil, fmt.Errorf("unknown --until %q: want one of %s", o.until, strings.Join(levels, ", "))
	}
	p, err := o.out.open(env) // checks --format and -o
	if err != nil {
		return nil, err
	}
	p.discard()
	settings := pressure.Default()
	if o.config != "" {
		a, err := readAdvice(env, o.config)
		if err != nil {
			return nil, err
		}
		settings.Low, settings.High, settings.Hysteresis = a.Pressure.Low.Value, a.Pressure.High.Value,
			a.Pressure.Hysteresis.Value
	}
	monitor, err := pressure.NewMonitor(settings)
	if err != nil {
		return nil, fmt.Errorf("reading --config %s: %w", o.config, err)
	}
	w := &watcher{watchOptions: o, env: env, monitor: monitor, read: func() (pressure.Reading,
		error) {
		return probe.Pressure(o.root)
	}}
	if o.root == "/" {
		w.cards = &watchedCards{library: env.libcuda()}
	}
	return w, nil
}

// readAdvice reads a configuration strictly: unknown keys and a foreign schema are refused.
func readAdvice(env *environment, path string) (advise.Advice, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return advise.Advice{}, fmt.Errorf("reading configuration: %w", err)
	}
	a, err := advise.Decode(path, data)
	for _, w := range a.Warnings {
		env.warn("%s", w)
	}
	return a, err
}

// watcher follows one machine.
type watcher struct {
	*watchOptions
	env     *environment
	monitor *pressure.Monitor
	read    func() (pressure.Reading, error)
	cards   *watchedCards // nil: none are looked for
	level   pressure.Level
	fed     bool
	told    map[string]bool // warnings given

	exporter *exporter // nil without --listen
}

// run reads now and at every tick, until --until is reached or ctx ends.
func (w *watcher) run(ctx context.Context, ticks <-chan time.Time) error {
	for {
		done, err := w.step(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			if w.until != "" {
				return verdict.Failed.Errorf("the level is %s: %s was not reached", w.level, w.until)
			}
			return nil
		case <-ticks:
		}
	}
}

// step takes one reading, shows it, and runs the hooks.
func (w *watcher) step(ctx context.Context) (done bool, err error) {
	reading, err := w.read()
	if err != nil {
		w.warnOnce(err.Error())
	}
	if w.cards != nil {
		devices, unread, err := w.cards.read(ctx)
		if err != nil && ctx.Err() == nil { // what the end of the watch cut short is no failure
			w.warnOnce(err.Error())
		}
		reading.Budgets = append(reading.Budgets, devices...)
		if ctx.Err() == nil {
			reading.Unread = append(w.warnUnread(reading.Unread, false), w.warnUnread(unread, err != nil)...)
		}
	}
	if len(reading.Budgets) == 0 {
		return false, verdict.Unable.Of(errors.New("no memory could be read"))
	}
	state := w.monitor.Feed(reading)
	before, first := w.level, !w.fed
	w.level, w.fed = state.Level, true
	changed := state.Changed || first
	if err := errors.Join(w.exporter.show(reading, state), w.show(reading, state, changed, before)); err != nil {
		return false, err
	}
	if state.Changed && w.command != "" {
		w.hook(ctx, state, before)
	}
	if reading.Blind() && w.once {
		return true, verdict.Unsure.Of(errors.New("a card's memory could not be read: the level may be higher"))
	}
	return w.once || w.reached(before, first) && !(reading.Blind() && w.until == pressure.Low.String()), nil
}

// warnUnread says once of each card why it is not read; told, the cause of all has been said.
func (w *watcher) warnUnread(list []pressure.Unread, told bool) []pressure.Unread {
	for _, u := range list {
		switch {
		case told:
		case u.Covered:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): its parts are", u.Name, u.Why))
		case u.Last:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): its last reading stands", u.Name, u.Why))
		default:
			w.warnOnce(fmt.Sprintf("%s cannot be read (%s): the level may be higher", u.Name, u.Why))
		}
	}
	return list
}

// reached says whether --until is satisfied: at or above a level, or, for low, having come down to it.
func (w *watcher) reached(before pressure.Level, first bool) bool {
	switch w.until {
	case "":
		return false
	case pressure.Low.String():
		return w.level == pressure.Low && !first && before != pressure.Low
	}
	return int(w.level) >= slices.Index(levels, w.until)
}

func (w *watcher) warnOnce(text string) {
	if w.told == nil {
		w.told = map[string]bool{}
	}
	if !w.told[text] {
		w.told[text] = true
		w.env.warn("%s", strings.Join(strings.Fields(text), " "))
	}
}

// show writes the state in the chosen format. A file holds the last state; on stdout text tells changes and, on a
// terminal, the present below them.
func (w *watcher) show(r pressure.Reading, s pressure.State, changed bool, before pressure.Level) error {
	if w.out.path == "" && w.out.format == "text" {
		return w.showText(r, s, changed, before)
	}
	p, err := w.out.open(w.env)
	if err != nil {
		return err
	}
	defer p.discard()
	switch w.out.format {
	case "prometheus":
		err = report.Pressure(p, r, s)
	case "json":
		err = json.NewEncoder(p).Encode(sampleOf(r, s))
	default:
		_, err = fmt.Fprintln(p, stateLine(s))
		for _, line := range s.Advice() {
			fmt.Fprintln(p, "  "+line)
		}
	}
	if err != nil {
		return err
	}
	return p.commit()
}

func (w *watcher) showText(r pressure.Reading, s pressure.State, changed bool, before pressure.Level) error {
	columns := 0 // of the terminal, where there is one to keep the present state on
	if f, ok := w.env.stdout.(*os.File); ok && !w.once {
		columns, _, _ = term.GetSize(int(f.Fd())) // its error leaves zero: no terminal
	}
	if columns > 0 {
		fmt.Fprint(w.env.stdout, "\r\x1b[K")
	}
	if changed {
		line := stateLine(s)
		if s.Changed {
			line = fmt.Sprintf("%s -> %s", before, line)
		}
		fmt.Fprintln(w.env.stdout, line)
		for _, line := range s.Advice() {
			fmt.Fprintln(w.env.stdout, "  "+line)
		}
	}
	if columns > 0 {
		fmt.Fprint(w.env.stdout, cutTo(columns-1, budgetsLine(r, s)))
	}
	return nil
}

// cutTo shortens a line that would wrap: only the terminal's last row is written anew.
func cutTo(columns int, line string) string {
	if all := []rune(line); len(all) > columns {
		return string(all[:max(columns-1, 0)]) + "…"
	}
	return line
}

// stateLine says the level and what makes it.
func stateLine(s pressure.State) string {
	line := s.Level.String()
	if b := s.Tightest; b.Limit > 0 {
		line += fmt.Sprintf(": %s %s of %s (%.0f %%)", b.Name, b.Used, b.Limit, 100*b.Fraction())
	}
	if s.Stalled {
		line += fmt.Sprintf(", tasks stall on memory %.0f %% of the time", 100*s.Stall.Some)
	}
	return line
}

// budgetsLine is every budget in one line.
func budgetsLine(r pressure.Reading, s pressure.State) string {
	parts := []string{s.Level.String()}
	for _, b := range r.Budgets {
		parts = append(parts, fmt.Sprintf("%s %s of %s", b.Name, b.Used, b.Limit))
	}
	for _, u := range r.Unread {
		text := u.Name + " unread"
		if u.Last {
			text += fmt.Sprintf(" for %s", u.Age.Round(time.Second))
		}
		parts = append(parts, text)
	}
	if r.Stall != nil {
		parts = append(parts, fmt.Sprintf("stall %.0f %%", 100*r.Stall.Some))
	}
	return strings.Join(parts, " | ")
}

// sample is one reading as JSON, a line each.
type sample struct {
	Level   string         `json:"level"`
	Budgets []sampleBudget `json:"budgets"`
	Unread  []sampleUnread `json:"unread,omitempty"`
	Stall   *sampleStall   `json:"stall"` // null where the kernel does not count stalls
	Advice  []string       `json:"advice"`
}

type sampleBudget struct {
	Name  string      `json:"name"`
	Used  units.Bytes `json:"used_bytes"`
	Limit units.Bytes `json:"limit_bytes"`
}

// sampleUnread is a budget whose reading failed; age is that of the value that stands for it, null where none does.
type sampleUnread struct {
	Name string   `json:"name"`
	Why  string   `json:"why"`
	Age  *float64 `json:"age_s"`
}

type sampleStall struct {
	Some float64 `json:"some"`
	Full float64 `json:"full"`
}

func sampleOf(r pressure.Reading, s pressure.State) sample {
	out := sample{Level: s.Level.String(), Advice: append([]string{}, s.Advice()...)}
	for _, b := range r.Budgets {
		out.Budgets = append(out.Budgets, sampleBudget{b.Name, b.Used, b.Limit})
	}
	for _, u := range r.Unread {
		entry := sampleUnread{Name: u.Name, Why: u.Why}
		if age := u.Age.Seconds(); u.Last {
			entry.Age = &age
		}
		out.Unread = append(out.Unread, entry)
	}
	if r.Stall != nil {
		out.Stall = &sampleStall{r.Stall.Some, r.Stall.Full}
	}
	return out
}

// hook runs --exec and waits for it; its output goes to stderr, and its failure is a warning.
func (w *watcher) hook(ctx context.Context, s pressure.State, before pressure.Level) {
	shell := exec.CommandContext(ctx, "sh", "-c", w.command)
	shell.Env = append(os.Environ(), "VLMEM_LEVEL="+s.Level.String(), "VLMEM_PREVIOUS="+before.String(),
		"VLMEM_BUDGET="+s.Tightest.Name,
		fmt.Sprintf("VLMEM_USED_BYTES=%d", s.Tightest.Used), fmt.Sprintf("VLMEM_LIMIT_BYTES=%d", s.Tightest.Limit))
	shell.Stdout, shell.Stderr = w.env.stderr, w.env.stderr
	if err := shell.Run(); err != nil {
		w.env.warn("--exec: %v", err)
	}
}
