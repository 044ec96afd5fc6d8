package observation

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/units"
)

// Scheduled is the code of what a scheduler saw of a run beside what was predicted.
const Scheduled evidence.Code = "scheduled"

// groupSlurm marks a run that Slurm's accounting followed.
const groupSlurm = "slurm"

// fromSacct reports whether a file is what sacct -P writes: columns named in the first line, with bars between.
func fromSacct(data []byte) bool {
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return bytes.HasPrefix(first, []byte("JobID|"))
}

// DecodeSacct reads the peaks of sacct -P --noconvert -o JobID,JobName,State,MaxRSS,NodeList: of each job the step that
// held most. MaxRSS is bytes, or units of 1,024 with a letter where sacct converts them.
//
// jobacct_gather/linux sums the resident pages of a step's processes, those of mapped files among them, now and then
// (JobAcctGatherFrequency): it says nothing of what the kernel could have dropped, and misses short peaks.
func DecodeSacct(name string, data []byte) ([]*Observation, error) {
	r := csv.NewReader(bytes.NewReader(data))
	r.Comma, r.LazyQuotes = '|', true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: reading what sacct wrote: %w", name, err)
	}
	column := func(title string) int { return slices.Index(rows[0], title) }
	if column("MaxRSS") < 0 {
		return nil, fmt.Errorf("%s:1: no column MaxRSS: want sacct -P --noconvert -o JobID,JobName,State,MaxRSS,NodeList",
			name)
	}
	var list []*Observation
	for i, row := range rows[1:] {
		cell := func(title string) string {
			if at := column(title); at >= 0 {
				return row[at]
			}
			return ""
		}
		if cell("MaxRSS") == "" {
			continue // the job's own row, or a step that ended before it was looked at
		}
		peak, err := slurmBytes(cell("MaxRSS"))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: MaxRSS %w", name, i+2, err)
		}
		o := &Observation{Schema: Schema, Group: groupSlurm, Machine: Machine{Name: cell("NodeList")},
			Command: []string{"step " + row[0]}, Peak: Use{Resident: peak}}
		job, _, _ := strings.Cut(row[0], ".")
		if last := len(list) - 1; last < 0 || !strings.HasPrefix(list[last].Command[0], "step "+job+".") {
			list = append(list, o)
		} else if peak > list[last].Peak.Resident {
			list[last] = o
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no step has a MaxRSS: the job still runs, or JobAcctGatherType is none", name)
	}
	return list, nil
}

// slurmBytes reads a size as sacct prints it.
func slurmBytes(text string) (units.Bytes, error) {
	digits, scale := text, 1.0
	if at := strings.IndexByte("KMGTP", text[len(text)-1]); at >= 0 {
		digits = text[:len(text)-1]
		for range at + 1 {
			scale *= 1024
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(n >= 0 && n*scale < 1<<60) {
		return 0, fmt.Errorf("%q: want bytes", text)
	}
	return units.Bytes(n * scale), nil
}

// Hold puts what a scheduler saw beside what was predicted of the host, as warnings, and says how many runs it saw. It
// teaches nothing: a sum of heaps and mapped files tells neither from the other.
func Hold(runs []*Observation, mem *engine.Memory) (held int) {
	for _, o := range runs {
		if o.Group != groupSlurm {
			continue
		}
		held++
		beside := *o
		beside.Compare(mem, nil)
		total := beside.Items[len(beside.Items)-1]
		word := "as predicted"
		switch {
		case total.Seen < total.Low:
			word = "less than predicted"
		case total.Seen > total.High:
			word = "more than predicted"
		}
		mem.Warnings = append(mem.Warnings, evidence.Warn(Scheduled, "Slurm saw %s of %s on %s at its peak, %s: %s to %s "+
			"with every mapped page counted, which the kernel may drop; short peaks are missed", total.Seen, o.Command[0],
			o.Machine.Name, word, total.Low, total.High))
	}
	return held
}
