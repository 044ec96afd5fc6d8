package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/bench"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
)

// libcuda is the driver library to load, "" for the system's.
func (env *environment) libcuda() string {
	path, _ := env.lookup("VLMEM_LIBCUDA")
	return path
}

// backends are where bench streams can do its work.
var backends = []string{"host", "sim", "cuda"}

// defaultCard is what --on sim simulates: 8 GiB of compute capability 6.1.
const defaultCard = "gtx-1080"

type benchStreamsOptions struct {
	on, hardware, model, image string
	repeats                    int
	out                        output
}

func newBenchStreamsCmd(env *environment) *cobra.Command {
	var o benchStreamsOptions
	cmd := &cobra.Command{
		Use:   "streams",
		Short: "Show what overlapping copies with computing gains, and what pools of pinned memory save",
		Long: `streams takes images through a vision pipeline twice, a copy and a computation one after the other and
overlapped on streams, and times staging memory locked anew beside memory from a pool.

It runs on worker threads of this machine (host), on this machine's first card (cuda), or on a card
computed from its profile (sim), where the pipeline's times are the profile's rates and no card ran.`,
		Example: `  vlmem bench streams
  vlmem bench streams --on sim --hardware gtx-1080-ti --format json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runBenchStreams(env, o) },
	}
	addModelFlag(cmd, &o.model)
	flags := cmd.Flags()
	flags.StringVar(&o.on, "on", backends[0], "where to run: "+strings.Join(backends, ", "))
	flags.StringVar(&o.image, "image", "640x480", "image of the pipeline, WIDTHxHEIGHT pixels")
	flags.IntVar(&o.repeats, "repeats", 5, "timed runs of each pipeline")
	addHardwareFlag(cmd, &o.hardware)
	flags.Lookup("hardware").Usage = "with --on sim, the card to simulate: a built-in name or file (default: " +
		defaultCard + ")"
	completes(cmd, "on", backends)
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

// addBackendFlag declares the name that bench streams had before: bench --backend, until v0.2.0.
func addBackendFlag(cmd *cobra.Command, o *benchStreamsOptions) {
	flags := cmd.Flags()
	flags.StringVar(&o.on, "backend", "", "")
	flags.StringVar(&o.hardware, "hardware", "", "")
	_ = flags.MarkHidden("backend")
	_ = flags.MarkHidden("hardware")
}

// runBackend is bench --backend: bench streams, with none of bench's other flags.
func (o *benchOptions) runBackend(env *environment, cmd *cobra.Command) error {
	for _, name := range []string{"trace", "device", "decode", "allocators", "touch", "limit", "granule", "save",
		"against", "report", "shard"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s has no meaning with --backend: vlmem bench streams takes --on, --hardware, --model, "+
				"--image, --repeats, --format and -o", name)
		}
	}
	if !slices.Contains([]string{"table", "json", "yaml"}, o.out.format) {
		return fmt.Errorf("--format %s with --backend: want table, json or yaml", o.out.format)
	}
	if len(o.models) != 1 || len(o.images) != 1 {
		return errors.New("--backend runs one model and one image: give each flag once")
	}
	env.warn("bench --backend is now: vlmem bench streams --on %s", o.streams.on)
	o.streams.model, o.streams.image, o.streams.repeats, o.streams.out = o.models[0], o.images[0], o.repeats, o.out
	return runBenchStreams(env, o.streams)
}

// runBenchStreams shows what overlap and pooling are worth on one backend.
func runBenchStreams(env *environment, o benchStreamsOptions) error {
	var result bench.Streams
	if err := o.out.write(env, func(w *outlet.Pending) (err error) {
		if result, err = o.run(env); err != nil {
			return err
		}
		return report.Streams(w, o.out.format, result)
	}); err != nil {
		return err
	}
	return result.Verdict()
}

func (o benchStreamsOptions) run(env *environment) (bench.Streams, error) {
	if !slices.Contains(backends, o.on) {
		return bench.Streams{}, fmt.Errorf("unknown --on %q: want one of %s", o.on, strings.Join(backends, ", "))
	}
	if o.hardware != "" && o.on != "sim" { // it may come from the settings and be meant for other commands
		env.warn("--hardware is for --on sim; --on %s runs on this machine", o.on)
	}
	if o.repeats < 1 {
		return bench.Streams{}, fmt.Errorf("--repeats %d: want at least 1", o.repeats)
	}
	options, err := bench.PipelineOf(o.model, o.image, o.repeats)
	if err != nil {
		return bench.Streams{}, err
	}
	switch o.on {
	case "host":
		return bench.StreamsOnHost(options)
	case "cuda":
		return bench.StreamsOnCard(env.libcuda(), options)
	}
	return bench.StreamsSimulated(cmp.Or(o.hardware, defaultCard), options)
}
