package shard

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/replay"
)

func environment(variables ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, v := range variables {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

func TestNumbersAreGivenOrScheduled(t *testing.T) {
	for _, c := range []struct {
		text      string
		variables []string
		want      Number
		fault     string
	}{
		{"0/8", nil, Number{0, 8}, ""},
		{"7/8", []string{"JOB_COMPLETION_INDEX=1"}, Number{7, 8}, ""}, // what is given counts
		{"/8", []string{"JOB_COMPLETION_INDEX=0"}, Number{0, 8}, ""},
		{"/8", []string{"SLURM_ARRAY_TASK_ID=3", "SLURM_ARRAY_TASK_COUNT=1", "SLURM_ARRAY_TASK_MIN=3"}, Number{3, 8}, ""},
		{"/8", []string{"JOB_COMPLETION_INDEX=", "SLURM_ARRAY_TASK_ID=3"}, Number{3, 8}, ""},
		{"/8", []string{"JOB_COMPLETION_INDEX=3", "SLURM_ARRAY_TASK_ID=3"}, Number{3, 8}, ""},
		{"/8", []string{"JOB_COMPLETION_INDEX=3", "SLURM_ARRAY_TASK_ID=4"}, Number{}, "SLURM_ARRAY_TASK_ID says 4"},
		{"/8", []string{"SLURM_ARRAY_TASK_ID=8"}, Number{}, "the last of 8 is 7"},
		{"/8", nil, Number{}, "no JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID is set"},
		{"8/8", nil, Number{}, "count from 0"},
		{"-1/8", nil, Number{}, "count from 0"},
		{"a/8", nil, Number{}, "count from 0"},
		{"0/0", nil, Number{}, "want I/N"},
		{"0/100001", nil, Number{}, "N is 1 to 100000"},
		{"8", nil, Number{}, "want I/N"},
		{"1/2/3", nil, Number{}, "want I/N"},
		{"", nil, Number{}, "want I/N"},
	} {
		got, err := Parse(c.text, environment(c.variables...))
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%q with %v: %v, %v; want %v, %q", c.text, c.variables, got, err, c.want, c.fault)
		}
	}
}

// whole is a run of n units, every seventh of which was left out with a note; timed, each takes as long as its place.
func whole(n, repeats int) File {
	f := File{Schema: Schema, Version: "v1", Fingerprint: "m", Shard: Number{0, 1}, Work: Work{Settings: []string{"s=1"}}}
	for u := range n {
		f.Work.Units = append(f.Work.Units, fmt.Sprintf("unit %d", u))
		o := Outcome{Unit: u}
		if u%7 == 6 {
			o.Notes = []string{fmt.Sprintf("unit %d left out", u)}
		} else {
			o.Result = &replay.Summary{Workload: "w", Allocator: fmt.Sprint(u), Overhead: 1 / float64(u+3), Repeats: repeats,
				NsPerOpMean: float64(u * repeats)}
		}
		f.Outcomes = append(f.Outcomes, o)
	}
	return f
}

// cut writes and reads the shards of a whole run.
func cut(t interface{ Fatal(...any) }, f File, of int) []Part {
	var parts []Part
	for i := range of {
		s := f
		s.Shard, s.Outcomes = Number{i, of}, []Outcome{}
		for _, o := range f.Outcomes {
			if s.Shard.Holds(o.Unit) {
				s.Outcomes = append(s.Outcomes, o)
			}
		}
		var b bytes.Buffer
		if err := s.Write(&b); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d.json", i)
		read, err := Read(name, b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, Part{name, read})
	}
	return parts
}

// TestShardsMergeToTheWhole: however many shards, in whatever order.
func TestShardsMergeToTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := whole(rapid.IntRange(1, 40).Draw(t, "units"), 0)
		parts := cut(t, f, rapid.IntRange(1, 60).Draw(t, "shards"))
		got, err := Merge(rapid.Permutation(parts).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := Merge([]Part{{"whole", f}})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, want %+v, %v", got, want, err)
		}
	})
}

func TestTimesKeepTheirMachine(t *testing.T) {
	parts := cut(t, whole(4, 3), 2)
	parts[1].File.Fingerprint = "n"
	got, err := Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"m", "n", "m", "n"} {
		if got.Results[i].Machine != want {
			t.Errorf("unit %d is of machine %q, want %q", i, got.Results[i].Machine, want)
		}
	}
	if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "m took shard 0; n took shard 1") {
		t.Errorf("notes %q", got.Notes)
	}
}

func TestWhatDoesNotMergeIsNamed(t *testing.T) {
	change := func(edit func(*File)) []Part {
		parts := cut(t, whole(8, 0), 4)
		edit(&parts[2].File)
		return parts
	}
	all := change(func(*File) {})
	long := cut(t, whole(8, 0), 8)
	for _, c := range []struct {
		parts []Part
		want  string
	}{
		{nil, "no shards"},
		{all[1:], "missing: 0"},
		{[]Part{long[0], long[2], long[4]}, "of 8 shards, run these again, which are missing: 1,3,5-7"},
		{append([]Part{{"again.json", all[2].File}}, all...), "shard 2/4 is in both again.json and 2.json"},
		{change(func(f *File) { f.Version = "v2" }), "0.json and 2.json are not of one run: versions of vlmem v1 and v2"},
		{change(func(f *File) { f.Work.Settings = []string{"s=2"} }), "settings s=1 and s=2"},
		{change(func(f *File) { f.Work.Units = f.Work.Units[:7] }), "units unit 7 and (none)"},
		{append(all[:3:3], long[3]), "numbers of shards 4 and 8"},
	} {
		if _, err := Merge(c.parts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func TestFilesThatNoShardWroteAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "x: reading a shard at byte 0",
		`{"results":[]}`:                  "unknown field",
		`{"schema":"other"}`:              `schema is "other"`,
		shardText("4/4", "", ""):          "shard 4/4 is none",
		shardText("0/0", "", ""):          "shard 0/0 is none",
		shardText("0/2", "0", "0"):        "(a) is there twice",
		shardText("0/2", "0", "1"):        "unit 1 does not fall to shard 0/2",
		shardText("0/2", "0", "9"):        "unit 9 is none of the 3",
		shardText("0/2", "0", ""):         "unit 2 (c) of shard 0/2 is missing",
		shardText("0/2", "0", "2") + "{}": "something follows the shard",
		strings.Replace(shardText("0/2", "0", "2"), `"work":{`, `"work":{"advise":["model=m"],`,
			1): "(a) has no figures of any pool",
	} {
		if _, err := Read("x", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Read("x", []byte(shardText("0/2", "2", "0"))); err != nil {
		t.Error(err)
	}
}

// shardText is a file of three units with up to two outcomes.
func shardText(number string, units ...string) string {
	var outcomes []string
	for _, u := range units {
		if u != "" {
			outcomes = append(outcomes, fmt.Sprintf(`{"unit":%s,"result":null}`, u))
		}
	}
	index, of, _ := strings.Cut(number, "/")
	return fmt.Sprintf(`{"schema":%q,"shard":{"index":%s,"of":%s},"work":{"units":["a","b","c"]},"outcomes":[%s]}`, Schema,
		index, of, strings.Join(outcomes, ","))
}

// FuzzRead: a file is refused, or merges or is told to lack the others.
func FuzzRead(f *testing.F) {
	f.Add([]byte(shardText("0/2", "2", "0")))
	f.Add([]byte(shardText("0/1", "0", "1")))
	f.Add([]byte(`{"schema":"vlmem/shard/v1","shard":{"index":0,"of":100000}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read("f", data)
		if err != nil {
			return
		}
		if _, err := Merge([]Part{{"f", file}}); (err == nil) != (file.Shard.Of == 1) {
			t.Errorf("%q: %v", data, err)
		}
	})
}
