package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/watch"
)

type watchOptions struct {
	root, config, until, command string
	listen                       string
	interval, timeout            time.Duration
	once                         bool
	out                          output
	live                         report.Live
}

func newWatchCmd(env *environment) *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow the pressure on memory, with advice in words",
		Long: `watch reads what is used of the host's memory, of the nodes it is held to, of the tightest control group and
of each card, and the kernel's stall counters, and says which level they make: low, medium or high. A line is written
when the level changes; on a terminal the present stands below, each budget with its last readings. What makes other
programs wait, at limits of their own, is said as that and raises no level. Thresholds are 30 and 80 % unless --config names a
configuration of advise.

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
	flags.StringVar(&o.until, "until", "", "end with 0 when the level is at least this: "+strings.Join(watch.Levels[1:],
		", ")+"; or falls back to low")
	flags.StringVar(&o.command, "exec", "", "run this shell command at each change of level")
	flags.DurationVar(&o.interval, "interval", time.Second, "time between two readings")
	flags.DurationVar(&o.timeout, "timeout", 0,
		"end after this time; with --until, exit 1 where the level was not reached")
	flags.BoolVar(&o.once, "once", false, "read once and end")
	flags.StringVar(&o.listen, "listen", "",
		"serve Prometheus at this port of the loopback, or as :PORT at all addresses, or as ADDRESS:PORT")
	completes(cmd, "until", watch.Levels)
	o.out.addFlags(cmd, "text", "prometheus", "json")
	return cmd
}

func runWatch(env *environment, ctx context.Context, o *watchOptions) (failed error) {
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
		exporter, err := watch.Listen(o.listen)
		if err != nil {
			return err
		}
		show := w.Show
		w.Show = func(m watch.Moment) error { return errors.Join(exporter.Show(m.Reading, m.State), show(m)) }
		defer func() { failed = errors.Join(failed, exporter.Close()) }()
	}
	err = w.Run(ctx, ticks.C)
	if w.Cards != nil {
		err = errors.Join(err, w.Cards.Close())
	}
	return err
}

// check refuses what no watch can be.
func (o *watchOptions) check() error {
	switch {
	case o.interval < 10*time.Millisecond:
		return fmt.Errorf("--interval %s: want at least 10ms", o.interval)
	case o.listen != "" && o.once:
		return errors.New("--once ends before anybody could ask --listen: drop one")
	case o.timeout < 0:
		return fmt.Errorf("--timeout %s: want above 0", o.timeout)
	case o.until != "" && !slices.Contains(watch.Levels, o.until):
		return fmt.Errorf("unknown --until %q: want one of %s", o.until, strings.Join(watch.Levels, ", "))
	}
	return nil
}

// watcher checks the options and starts at the low level.
func (o *watchOptions) watcher(env *environment) (*watch.Watcher, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p, err := o.out.open(env) // checks --format and -o
	if err != nil {
		return nil, err
	}
	p.Discard()
	settings := pressure.Default()
	if o.config != "" {
		a, err := readAdvice(env, o.config)
		if err != nil {
			return nil, err
		}
		settings.Low, settings.High, settings.Hysteresis = a.Pressure.Thresholds()
	}
	monitor, err := pressure.NewMonitor(settings)
	if err != nil {
		return nil, fmt.Errorf("reading --config %s: %w", o.config, err)
	}
	w := &watch.Watcher{Read: (&probe.Gauge{Root: o.root}).Read, Monitor: monitor,
		Until: o.until, Once: o.once, Command: o.command, HookOutput: env.stderr,
		Show: func(m watch.Moment) error { return o.show(env, m) }, Warn: func(text string) { env.warn("%s", text) }}
	if o.root == "/" {
		w.Cards = &watch.Cards{Library: env.libcuda()}
	}
	return w, nil
}

// show writes the state in the chosen format. A file holds the last state; on stdout text tells changes and, on a
// terminal, the present below them.
func (o *watchOptions) show(env *environment, seen watch.Moment) error {
	m := report.Moment{Reading: seen.Reading, State: seen.State, Before: seen.Before, Changed: seen.Changed}
	if o.out.path == "" && o.out.format == "text" {
		sheet := env.sheet(env.stdout)
		o.live.Show(report.On(env.stdout, sheet), m, o.once || !sheet.Live(env.lookup))
		return nil
	}
	p, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer p.Discard()
	if err := m.Write(p, o.out.format); err != nil {
		return err
	}
	return p.Commit()
}
