package shard

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/replay"
)

// Part is a file and the name that it was read under.
type Part struct {
	Name string
	File File
}

// Merged is the run that the shards are parts of.
type Merged struct {
	Results []replay.Summary
	Notes   []string
	Work    Work
	Seen    []advise.Seen // by unit, of a configuration
}

// Merge joins the files of all shards, in any order. Files of other work, missing and doubled shards are errors.
func Merge(parts []Part) (Merged, error) {
	byIndex, err := sorted(parts)
	if err != nil {
		return Merged{}, err
	}
	outcomes := make([]Outcome, len(parts[0].File.Work.Units))
	machines := map[string][]string{} // the timed shards of each
	for _, p := range byIndex {
		timed := false
		for _, o := range p.File.Outcomes {
			if o.Result != nil && o.Result.Repeats > 0 {
				timed = true
				o.Result.Machine = p.File.Fingerprint
			}
			outcomes[o.Unit] = o
		}
		if timed {
			machines[p.File.Fingerprint] = append(machines[p.File.Fingerprint], fmt.Sprint(p.File.Shard.Index))
		}
	}
	m := Merged{Work: parts[0].File.Work}
	for _, o := range outcomes {
		if m.Work.Advise != nil {
			m.Seen = append(m.Seen, o.Seen)
		}
		if o.Result != nil {
			m.Results = append(m.Results, *o.Result)
		}
		m.Notes = append(m.Notes, o.Notes...)
	}
	m.Notes = append(m.Notes, ofMachines(machines)...)
	return m, nil
}

// ofMachines warns that times of several machines stand side by side.
func ofMachines(machines map[string][]string) []string {
	if len(machines) < 2 {
		return nil
	}
	var list []string
	for fingerprint, shards := range machines {
		list = append(list, fmt.Sprintf("%s took shard %s", fingerprint, strings.Join(shards, ", ")))
	}
	slices.Sort(list)
	return []string{"times are of several machines and do not compare across them: " + strings.Join(list, "; ")}
}

// sorted checks that the parts are all shards of one run, each once, and puts them in order.
func sorted(parts []Part) ([]Part, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("no shards to merge")
	}
	first := parts[0]
	byIndex := make([]Part, first.File.Shard.Of)
	var faults []string
	for _, p := range parts {
		if err := first.alike(p); err != nil {
			return nil, err
		}
		i := p.File.Shard.Index
		if byIndex[i].Name != "" {
			faults = append(faults, fmt.Sprintf("shard %s is in both %s and %s", p.File.Shard, byIndex[i].Name, p.Name))
		}
		byIndex[i] = p
	}
	if missing := absent(byIndex); missing != "" {
		faults = append([]string{fmt.Sprintf("of %d shards, run these again, which are missing: %s", len(byIndex), missing)},
			faults...)
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("merging: %s", strings.Join(faults, "; "))
	}
	return byIndex, nil
}

// absent lists the shards without a part as sbatch --array takes them: "1,3,5-7".
func absent(byIndex []Part) string {
	var runs []string
	for i := 0; i < len(byIndex); i++ {
		if byIndex[i].Name != "" {
			continue
		}
		last := i
		for last+1 < len(byIndex) && byIndex[last+1].Name == "" {
			last++
		}
		if runs = append(runs, fmt.Sprint(i)); last > i {
			runs[len(runs)-1] += fmt.Sprintf("-%d", last)
		}
		i = last
	}
	return strings.Join(runs, ",")
}

// alike refuses a part of another run, saying what differs.
func (p Part) alike(q Part) error {
	a, b := p.File, q.File
	differ := func(what, one, other string) error {
		return fmt.Errorf("merging: %s and %s are not of one run: %s %s and %s", p.Name, q.Name, what, one, other)
	}
	switch {
	case a.Version != b.Version:
		return differ("versions of vlmem", a.Version, b.Version)
	case a.Shard.Of != b.Shard.Of:
		return differ("numbers of shards", fmt.Sprint(a.Shard.Of), fmt.Sprint(b.Shard.Of))
	}
	for _, list := range []struct {
		what       string
		one, other []string
	}{{"flags", a.Work.Advise, b.Work.Advise}, {"settings", a.Work.Settings, b.Work.Settings},
		{"units", a.Work.Units, b.Work.Units}, {"files", a.Work.Beside, b.Work.Beside}} {
		for i := range max(len(list.one), len(list.other)) {
			if one, other := at(list.one, i), at(list.other, i); one != other {
				return differ(list.what, one, other)
			}
		}
	}
	return nil
}

// at is the item of a list, or that there is none.
func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "(none)"
}
