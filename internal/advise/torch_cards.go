package advise

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/verdict"
)

// TorchCards are the traces of a file's cards. It notes in to what they say of their settings and their release.
func TorchCards(path string, to *TorchOptions) ([]*trace.Trace, error) {
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
	return cards, nil
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
