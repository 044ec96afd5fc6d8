package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/profiles"
)

type probeOptions struct {
	out      output
	save     string
	root     string
	deep     bool
	reported bool
	topology bool
	pid      int
	doctor   string
	models   []string
	asked    []profile.Model // of those names
}

func newProbeCmd(env *environment) *cobra.Command {
	var o probeOptions
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Find out what this machine is, and what it really does",
		Long: `probe reads what the machine reports (processors, caches, memory, limits, cards) and measures what it does
(the cache capacities felt, latency, bandwidth, arithmetic, page faults). Its YAML is what --hardware takes.
--format nfd is a feature file of Kubernetes' Node Feature Discovery, with --model what of a list fits the node.`,
		Example: `  vlmem probe
  vlmem probe --deep --save mine.yaml
  vlmem probe --topology
  vlmem probe --root CAPTURE --format json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return cmp.Or(noArguments(cmd, args), settings.Idle(cmd, "topology", "format", "report", "save"),
				settings.Idle(cmd, "doctor", "format", "report", "output"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runProbe(cmd, env, &o) },
	}
	o.out.addFlags(cmd, "table", "yaml", "json", "nfd")
	o.out.addPage(cmd)
	cmd.Flags().BoolVar(&o.deep, "deep", false, "measure finely, with every number of threads (under a minute)")
	cmd.Flags().BoolVar(&o.reported, "reported", false, "read what the machine reports and measure nothing")
	cmd.Flags().BoolVar(&o.topology, "topology", false, "draw the topology as lstopo does, and measure nothing")
	cmd.Flags().StringVar(&o.root, "root", "/",
		"read a captured machine: a folder with its sys and proc; measures nothing")
	cmd.Flags().StringVar(&o.doctor, "doctor", "",
		"write what probe reads to this file, a .tar.gz for a bug report that --root replays, and measure nothing")
	cmd.Flags().IntVar(&o.pid, "pid", 0, "read the limits of this process in place of vlmem's own; measures nothing")
	cmd.Flags().StringArrayVar(&o.models, "model", nil, "with --format nfd: label how this model fits; may be repeated")
	completeModels(cmd)
	cmd.Flags().StringVar(&o.save, "save", "", "also write the YAML to this file, for --hardware")
	settings.Exclusive(cmd, "deep reported", "deep topology", "deep pid", "deep doctor", "save doctor", "topology doctor")
	return cmd
}

func runProbe(cmd *cobra.Command, env *environment, o *probeOptions) error {
	if err := o.check(env, cmd); err != nil {
		return err
	}
	o.out.others = []string{o.save}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	saved, err := env.openFile("--save", "yaml", o.save)
	if err != nil {
		return err
	}
	defer saved.Discard()
	hardware, topology, err := probe.ReadFor(o.root, o.pid)
	switch {
	case err != nil:
		return err
	case o.doctor != "":
		return o.writeCapture(env, hardware)
	case o.topology:
		return errors.Join(topology.Draw(w), w.Commit())
	}
	if err := o.look(env, cmd.Context(), &hardware); err != nil {
		return err
	}
	return o.show(env, cmd.Context(), w, saved, hardware)
}

// look adds this machine's cards and what timing finds, and what data sheets say of cards.
func (o *probeOptions) look(env *environment, ctx context.Context, h *profile.Hardware) (err error) {
	if o.root == "/" {
		probe.CardsAt(h, env.libcuda(), !o.reported)
		if !o.reported {
			err = measure(env, ctx, h, o.deep)
		}
	}
	return errors.Join(err, profiles.Sheets(h))
}

// show writes the machine, and --save.
func (o *probeOptions) show(env *environment, ctx context.Context, w, saved *outlet.Pending,
	hardware profile.Hardware) (err error) {
	if o.out.format != "table" || o.out.path != "" { // a table on the screen shows them itself
		warnAll(env, hardware.Warnings)
	}
	if o.save != "" {
		err = errors.Join(report.Document(saved, "yaml", hardware), saved.Commit())
	}
	m := report.Machine{Hardware: hardware, Notes: probe.Notes(hardware)}
	if err == nil {
		m.Fits, err = fleet.Fitting(ctx, hardware, o.asked)
	}
	if err == nil {
		err = errors.Join(m.Write(w, o.out.format),
			o.out.paint(env, func(to io.Writer, a report.About) error { return report.MachinePage(to, a, m) }))
	}
	if err != nil {
		return err
	}
	return w.Commit()
}

// check refuses flags that do not go together, and reads the models that are asked for.
func (o *probeOptions) check(env *environment, cmd *cobra.Command) (err error) {
	if len(o.models) > 0 && o.out.format != "nfd" {
		return errors.New("--model makes labels, and needs --format nfd; vlmem fleet says of a machine what fits it")
	}
	if o.deep && o.root != "/" {
		return fmt.Errorf("--deep measures the machine it runs on, and --root %s is a capture: drop one", o.root)
	}
	if cmd.Flags().Changed("pid") {
		if o.pid <= 0 {
			return fmt.Errorf("--pid %d: want the number of a process", o.pid)
		}
		o.reported = true // what vlmem itself may take is not what that process may
	}
	o.asked, err = env.seeing(o.models)
	return err
}

// writeCapture writes the machine as a capture and says what is in it.
func (o *probeOptions) writeCapture(env *environment, h profile.Hardware) error {
	w, err := env.openFile("--doctor", "tar.gz", o.doctor)
	if err != nil {
		return err
	}
	defer w.Discard()
	if o.root == "/" {
		probe.CardsAt(&h, env.libcuda(), false)
	}
	files, err := probe.Capture(o.root, o.pid, h, w)
	if err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.stdout,
		"%s: %d files of /sys and /proc, %d cards; without serial numbers, UUIDs, users and host name, groups renamed\n",
		o.doctor, files, max(len(h.GPUs), len(h.Cards)))
	return err
}
