package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
)

type explainOptions struct {
	by, at, torch, memory string
	from, to              string
	frames, top           int
	ranks                 bool
	out                   output
}

func newExplainCmd(env *environment) *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain RECORDING [LATER]",
		Short: "Say why a recorded program ran out of memory, and what holds it",
		Long: `explain gives the account of a recording, of each device: every reserved byte is live, rounding, cached (free,
and can go back to the driver) or stranded (free, beside live blocks). Each request that was refused is answered: what was
asked and free, which rule of the allocator kept it, and which settings serve it in a replay, or how much is missing.

Then it lists what lives at a moment by site, stack, phase, module, pool or stream. A state without history has an account
too. Where the program runs in steps, what each step leaves behind is listed by the stack that asked for it; with a second,
later recording of the same process, what lives at its end and not at the first one's; with --from and --to, what lives at a
later moment and not at an earlier one. step:7 is the annotation ProfilerStep#7, or the seventh time that an allocation comes
back. Frames that say how a stack was taken are left out, as PyTorch's viewer does; nodes of a backward pass are named.

` + traceFiles,
		Example: `  vlmem explain snapshot.pickle
  vlmem explain before.pickle after.pickle --by stack
  vlmem explain snapshot.pickle --from step:3 --to step:7
  vlmem explain rank0.pickle rank1.pickle --ranks
  vlmem explain snapshot.pickle --by stack --format folded | flamegraph.pl --countname bytes > memory.svg`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 && !o.ranks {
				return fmt.Errorf("%s takes one RECORDING or two, or with --ranks any number, got %d; see %s --help",
					cmd.CommandPath(), len(args), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 && !o.ranks || o.from != "" || o.to != "" {
				return runExplainChange(env, &o, args)
			}
			return runExplain(env, &o, args)
		},
	}
	o.addFlags(cmd)
	o.out.addFlags(cmd, "table", "json", "yaml", "folded", "html")
	o.out.addPage(cmd)
	return cmd
}

func (o *explainOptions) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.by, "by", string(account.BySite), "tell live memory apart by "+strings.Join(account.Bys(), ", "))
	flags.StringVar(&o.at, "at", "",
		"moment: peak, end, oom, step:N or a number of entries (default: the peak, or the end without a history)")
	flags.StringVar(&o.from, "from", "", "moment, as --at has it, whose memory is told from that of --to")
	flags.StringVar(&o.to, "to", "", "later moment of the same recording (default: the end)")
	flags.IntVar(&o.frames, "frames", 0, "frames of a stack to tell apart, from the innermost (default: all)")
	flags.IntVar(&o.top, "top", 10, "origins to list in a table")
	flags.BoolVar(&o.ranks, "ranks", false, "the files are of several ranks of one program, each with its own card")
	flags.StringVar(&o.torch, "torch", "",
		"release of PyTorch, such as 2.11, that settings are for (default: what the recording shows, or else any)")
	flags.StringVar(&o.memory, "device-memory", "",
		"memory of the card that settings are tried on, such as 24GiB (default: what the refused request shows)")
	completes(cmd, "by", account.Bys())
}

// options are the flags, checked.
func (o *explainOptions) options() (account.Options, error) {
	out := account.Options{Frames: o.frames, At: o.at, Judge: true, Growth: true}
	out.Page = o.out.format == "html" || o.out.report != ""
	var err error
	if out.By, err = account.ParseBy(o.by); err != nil {
		return out, fmt.Errorf("--by %w", err)
	}
	if o.frames < 0 || o.top < 0 {
		return out, fmt.Errorf("--frames %d, --top %d: want numbers that are not negative", o.frames, o.top)
	}
	if out.Release, err = torchRelease(o.torch); err != nil {
		return out, err
	}
	memory, err := settings.Size("device-memory", o.memory)
	if err != nil {
		return out, err
	}
	out.Memory = int64(memory)
	if o.out.format == "folded" && out.By == account.BySite {
		out.By = account.ByStack
	}
	return out, nil
}

func runExplain(env *environment, o *explainOptions, paths []string) error {
	return o.out.write(env, func(w *outlet.Pending) error {
		options, err := o.options()
		if err != nil {
			return err
		}
		all, err := account.ExplainFiles(paths, options)
		if err != nil {
			return err
		}
		warnAll(env, all.Warnings)
		e := report.Explanation{Explanation: all, Top: o.top, About: env.about()}
		return errors.Join(e.Write(w, o.out.format), o.out.paint(env, e.Page))
	})
}

// runExplainChange shows what a later moment or recording holds that an earlier one does not.
func runExplainChange(env *environment, o *explainOptions, paths []string) error {
	return o.out.write(env, func(w *outlet.Pending) error {
		options, err := o.options()
		if err != nil {
			return err
		}
		if o.out.report != "" {
			return errors.New("--report is of one moment of one recording: drop it, or the second moment")
		}
		c, err := account.Changes(paths, o.from, o.to, options)
		if err != nil {
			return err
		}
		return (report.Comparison{Comparison: c, Top: o.top}).Write(w, o.out.format)
	})
}
