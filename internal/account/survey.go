package account

import (
	"cmp"
	"errors"

	"github.com/vlmem/vlmem/internal/trace"
)

// Surveyed describes one device's trace, and its account where the file is a recording.
type Surveyed struct {
	trace.Info `yaml:",inline"`
	HasHistory *bool   `json:"has_history,omitempty" yaml:"has_history,omitempty"` // nil where it is no recording
	Account    *Device `json:"account,omitempty" yaml:"account,omitempty"`
}

// Survey describes each device of a file, with its top call sites. What can be streamed is.
func Survey(f *trace.File, top int) ([]Surveyed, error) {
	switch {
	case f.Format.Recorded():
		return surveyRecordings(f, top)
	case f.Format != trace.Text:
		traces, err := f.Traces()
		if err != nil {
			return nil, err
		}
		return []Surveyed{{Info: traces[0].Info(top)}}, nil
	}
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	s := trace.NewSurvey()
	s.Start = r.Start()
	for e, err := range r.All() {
		if err != nil {
			return nil, err
		}
		s.Add(e)
	}
	info := s.Info(cmp.Or(r.Title(), f.Title()), r.Tags(), top)
	info.Refused = len(r.Refused())
	return []Surveyed{{Info: info}}, nil
}

// surveyRecordings describes each device with its account; one without a history has an account alone.
func surveyRecordings(f *trace.File, top int) ([]Surveyed, error) {
	recordings, err := f.Recordings()
	if err != nil {
		return nil, err
	}
	e, err := Explain(recordings, Options{By: ByPool})
	if err != nil {
		return nil, err
	}
	traces, err := trace.FromRecordings(f.Path, f.Title(), recordings)
	if err != nil && !errors.Is(err, trace.ErrNoHistory) {
		return nil, err
	}
	var list []Surveyed
	for i := range e.Devices {
		d := Surveyed{Info: trace.Info{Name: e.Devices[i].Name}, HasHistory: &e.Devices[i].HasHistory,
			Account: &e.Devices[i]}
		if e.Devices[i].HasHistory {
			d.Info = traces[0].Info(top)
			traces = traces[1:]
		}
		list = append(list, d)
	}
	return list, nil
}
