package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

// torchOptions reads the flags that are of PyTorch alone.
func (o *adviseOptions) torchOptions() (out advise.TorchOptions, err error) {
	if o.torch != "" {
		if out.Release, err = pytorch.ParseRelease(o.torch); err != nil {
			return out, fmt.Errorf("--torch: %w", err)
		}
	}
	if o.memory != "" {
		if out.Memory, err = units.ParseBytes(o.memory); err != nil {
			return out, fmt.Errorf("--device-memory: %w", err)
		}
	}
	return out, nil
}

// torchTraces is the cards of the recordings, or the model's own requests. It notes in to what the recordings say of
// their settings and their release.
func (o *adviseOptions) torchTraces(env *environment, in *advise.Inputs, to *advise.TorchOptions) ([]*trace.Trace, error) {
	var list []*trace.Trace
	for _, path := range o.traces {
		traces, err := cardsOf(env, path, to)
		if err != nil {
			return nil, err
		}
		if len(o.traces) == 1 && len(traces) == 1 && traces[0].Name == "" {
			traces[0].Name = path
		}
		list = append(list, traces...)
	}
	if len(o.traces) > 0 {
		return list, nil
	}
	for seed := range uint64(torchRuns) {
		t, err := o.sequence(in, seed, workload.Dynamic)
		if err != nil {
			return nil, err
		}
		t.Name = fmt.Sprintf("seed %d", seed)
		list = append(list, t)
	}
	return list, nil
}

// cardsOf is the traces of a file's cards.
func cardsOf(env *environment, path string, to *advise.TorchOptions) ([]*trace.Trace, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !f.Format.Recorded() {
		return f.Traces()
	}
	recordings, err := f.Recordings()
	if err != nil {
		return nil, err
	}
	list, err := trace.FromRecordings(path, f.Title(), recordings)
	if errors.Is(err, trace.ErrNoHistory) {
		return nil, stateOnly(path, recordings, err)
	}
	if err != nil {
		return nil, err
	}
	var cards []*trace.Trace
	for _, t := range list {
		if !t.Host {
			cards = append(cards, t)
		}
		for _, line := range t.Warnings {
			env.warn("%s", line)
		}
	}
	if len(cards) == 0 {
		return nil, verdict.Unable.Errorf("%s is of the host's memory, which PyTorch's allocator of cards does not serve: vlmem advise --for malloc", path)
	}
	noteRecordings(recordings, to)
	return cards, nil
}

// noteRecordings keeps the setting that the cards were recorded under, and the release as far as it shows.
func noteRecordings(recordings []snapshot.Recording, to *advise.TorchOptions) {
	for i := range recordings {
		r := &recordings[i]
		if r.Host() {
			continue
		}
		if cfg, err := pytorch.ConfigOf(r); err == nil {
			to.Recorded = cfg.String()
		}
		if !to.Release.Known() {
			to.Release = pytorch.ReleaseOf(r)
		}
	}
}

// stateOnly says of a state without history how to record one, and what its account is.
func stateOnly(path string, recordings []snapshot.Recording, err error) error {
	e, failed := account.Explain(recordings, account.Options{By: account.ByPool})
	if failed != nil {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(report.AccountLines(e), "; "))
}

// torchHeadline says what the choice saves and how far to trust it.
func torchHeadline(c *advise.TorchChoice) []string {
	list := refusedLines(c)
	switch {
	case c.Helps() && c.Best.Refused < c.Default.Refused:
		list = append(list, fmt.Sprintf("predicted: of %d refused requests under the default %d are left, %s reserved at most",
			c.Default.Refused, c.Best.Refused, c.Best.Reserved))
	case c.Helps():
		list = append(list, fmt.Sprintf("predicted reserved: %s before, %s after (%.1f %% less), of at least %s requested at once", c.Default.Reserved,
			c.Best.Reserved, 100*(1-float64(c.Best.Reserved)/float64(c.Default.Reserved)), c.LowerBound))
	case c.Default.Refused > 0:
		list = append(list, fmt.Sprintf("none of %d settings serves what the default refuses", len(c.Tried)-1))
	default:
		list = append(list, fmt.Sprintf("nothing helps: the default reserves %s, and no other of %d settings less; at least %s is requested at once",
			c.Default.Reserved, len(c.Tried)-1, c.LowerBound))
	}
	if c.Recorded != nil {
		list = append(list, fmt.Sprintf("recorded under %s, which reserves %s", c.Recorded.Conf, c.Recorded.Reserved))
	}
	list = append(list, fmt.Sprintf("the best of %d settings, each replayed through the allocator from an empty start [replayed]", len(c.Tried)))
	return append(list, heldOutLines(c)...)
}

// refusedLines says of each card what it refused and whether the choice serves it.
func refusedLines(c *advise.TorchChoice) []string {
	var list []string
	for i, card := range c.Cards {
		switch {
		case card.Requests == 0:
		case card.Short() > 0:
			list = append(list, fmt.Sprintf("%s: no setting can serve the %s it refused: with the %s that lived it exceeds the card's %s by %s",
				card.Name, card.Asked, card.Live, card.Capacity, card.Short()))
		case c.Default.EachRefused[i] == 0:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s; a replay from an empty start serves them under the default too: what stood before the recording decided",
				card.Name, card.Requests, card.Asked))
		case c.Best.EachRefused[i] == 0:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s: under this setting its %s serve them [replayed]",
				card.Name, card.Requests, card.Asked, card.Capacity))
		default:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s: under this setting its %s refuse %d [replayed]",
				card.Name, card.Requests, card.Asked, card.Capacity, c.Best.EachRefused[i]))
		}
	}
	return list
}

// heldOutLines says how the choice fares where it had no say.
func heldOutLines(c *advise.TorchChoice) []string {
	agree, of := c.Confidence()
	if of == 0 {
		return []string{"confidence: none, the trace is too short to hold a part back"}
	}
	list := []string{fmt.Sprintf("confidence: on %d of %d held-out parts what the rest chose reserves no more than the default",
		agree, of)}
	for _, h := range c.HeldOut {
		conf := h.Conf
		if conf == "" {
			conf = "the default"
		}
		list = append(list, fmt.Sprintf("held out %s: %s reserves %s, the default %s, the best there %s", h.Part, conf,
			h.Chosen, h.Default, h.Best))
	}
	return list
}
