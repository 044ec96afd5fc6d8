package advise

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

// torchCards are the traces of a file's cards. It notes in to what they say of their settings and their release.
func torchCards(path string, to *TorchOptions) ([]*trace.Trace, error) {
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
	}
	if len(cards) == 0 {
		return nil, verdict.Unable.Errorf("%s is of the host's memory, which PyTorch's allocator of cards does not serve: "+
			"vlmem advise --for malloc", path)
	}
	noteRecordings(recordings, to)
	return trace.OnDevices(cards, path, to.Devices)
}

// noteRecordings keeps the setting that the cards were recorded under, and the release as far as it shows.
func noteRecordings(recordings []snapshot.Recording, to *TorchOptions) {
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
	return fmt.Errorf("%w: %s", err, strings.Join(e.Lines(), "; "))
}

// torchRuns is how many runs PyTorch's settings are chosen from where there is no recording: as many as keep the
// replays of every setting within a minute.
const torchRuns = 6

// TorchTraces are the cards of the recordings, or the model's own requests. It notes in to what the recordings say of
// their settings and their release.
func (in *Inputs) TorchTraces(paths []string, mix *profile.Mix, to *TorchOptions) ([]*trace.Trace, error) {
	if len(paths) == 0 && len(to.Devices) > 0 {
		return nil, errors.New("--device chooses a card of a recording: it goes with --trace")
	}
	var list []*trace.Trace
	for _, path := range paths {
		traces, err := torchCards(path, to)
		if err != nil {
			return nil, err
		}
		if len(paths) == 1 && len(traces) == 1 && traces[0].Name == "" {
			traces[0].Name = path
		}
		list = append(list, traces...)
	}
	if len(paths) > 0 {
		return list, nil
	}
	for seed := range uint64(torchRuns) {
		t, err := in.Sequence(mix, seed, workload.Dynamic)
		if err != nil {
			return nil, err
		}
		t.Name = fmt.Sprintf("seed %d", seed)
		list = append(list, t)
	}
	return list, nil
}
