package shard

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/replay"
)

// Share is one shard while it is run. A nil share is the whole.
type Share struct {
	Number
	Work     Work
	Outcomes []Outcome
}

// Workload adds what tells a program from another of its name.
func (p *Share) Workload(program *replay.Program) {
	if p != nil {
		p.Work.Settings = append(p.Work.Settings, fmt.Sprintf("workload=%s, %d events, lower bound %d B", program.Name,
			program.Events, program.LowerBound))
	}
}

// Group is the units of one workload and kind of run that fall to a part.
type Group struct {
	Names []string // that are run
	first int      // unit of the whole group's first name
	all   []string
}

// Group lists units and keeps the names of those that fall to the part: all, where there is none.
func (p *Share) Group(workload, kind string, names []string) Group {
	if p == nil {
		return Group{Names: names}
	}
	g := Group{first: len(p.Work.Units), all: names}
	for _, name := range names {
		if p.Holds(len(p.Work.Units)) {
			g.Names = append(g.Names, name)
		}
		p.Work.Units = append(p.Work.Units, workload+" / "+kind+" / "+name)
	}
	return g
}

// Done keeps what the units of a group gave; notes go with the first of them.
func (p *Share) Done(g Group, results []replay.Summary, notes []string) {
	if p == nil {
		return
	}
	for _, name := range g.Names {
		out := Outcome{Unit: g.first + slices.Index(g.all, name), Notes: notes}
		if i := slices.IndexFunc(results, func(s replay.Summary) bool { return s.Allocator == name }); i >= 0 {
			out.Result = &results[i]
		}
		p.Outcomes, notes = append(p.Outcomes, out), nil
	}
}

// NewShare is the shard that spec names, with lookup for the scheduler's variables.
func NewShare(spec string, settings []string, lookup func(string) (string, bool)) (*Share, error) {
	n, err := Parse(spec, lookup)
	if err != nil {
		return nil, err
	}
	return &Share{Number: n, Work: Work{Settings: settings}}, nil
}

// File is what the share gave, of a version of vlmem on a machine.
func (p *Share) File(version, fingerprint string) File {
	return File{Version: version, Fingerprint: fingerprint, Shard: p.Number, Work: p.Work,
		Outcomes: slices.Concat([]Outcome{}, p.Outcomes)}
}
