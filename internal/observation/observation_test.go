package observation

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/units"
)

func whole() *Observation {
	o := &Observation{Schema: Schema, Started: time.Unix(1, 0).UTC(), Seconds: 2, Interval: 0.1,
		Machine: Machine{Name: "m", Memory: 8 << 30}, Command: []string{"engine", "-c", "4096"}, Group: "own",
		Items: []Item{{Name: Total, Where: "host", Predicted: 100, Low: 90, High: 110, Source: "derived", Seen: 103,
			Witness: "kernel"}}}
	for i, r := range []units.Bytes{10, 99, 100, 60} {
		o.Add(Sample{At: float64(i) / 2, Use: Use{Processes: 1, Resident: r, Anonymous: r / 2, Minor: int64(r)}})
	}
	return o
}

func TestReadsBackWhole(t *testing.T) {
	o := whole()
	o.Divide()
	var file bytes.Buffer
	if err := o.Encode(&file); err != nil {
		t.Fatal(err)
	}
	got, err := Decode("o.json", file.Bytes())
	if err != nil || !reflect.DeepEqual(got, o) {
		t.Errorf("%+v, %v", got, err)
	}
	if e := got.Items[0].Error(); e < 0.0299 || e > 0.0301 {
		t.Errorf("error %g", e)
	}
}

func TestDecodeRefuses(t *testing.T) {
	var file bytes.Buffer
	if err := whole().Encode(&file); err != nil {
		t.Fatal(err)
	}
	good := file.String()
	for _, c := range []struct{ old, new, want string }{
		{Schema, "vlmem/observation/v9", "want vlmem/observation/v1"},
		{`"seconds":2`, `"seconds":2,"moons":1`, "moons"},
		{`"seconds":2`, `"seconds":-2`, "seconds -2"},
		{`"command":["engine","-c","4096"]`, `"command":[]`, "command is empty"},
		{`"low_bytes":90`, `"low_bytes":101`, "items[0] total"},
		{`"at_seconds":1.5`, `"at_seconds":0`, "samples[3]: time runs back"},
		{good, good[:len(good)/2], "unexpected EOF"},
		{good, good + "{}", "more follows"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%q is not there", c.old)
		}
		if _, err := Decode("o.json", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	var file bytes.Buffer
	if err := whole().Encode(&file); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := Decode("o", data)
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := o.Encode(&again); err != nil {
			t.Fatal(err)
		}
		if _, err := Decode("again", again.Bytes()); err != nil {
			t.Fatalf("what was written is not read: %v", err)
		}
	})
}

func TestPhases(t *testing.T) {
	var o Observation
	for i, r := range []units.Bytes{10, 50, 99, 100, 100} {
		o.Add(Sample{At: float64(i), Use: Use{Resident: r}})
	}
	o.Seconds = 5
	o.Divide()
	if p := o.Phases; p[0].To != 2 || p[1].From != 2 || p[1].To != 5 {
		t.Errorf("phases %+v", p)
	}
}

func TestProportionalIsOfThePeak(t *testing.T) {
	for at, want := range map[int]units.Bytes{0: 0, 1: 9} {
		var o Observation
		for i, r := range []units.Bytes{10, 100, 50} {
			u := Use{Resident: r}
			if i == at {
				u.Proportional = 9
			}
			o.Add(Sample{At: float64(i), Use: u})
		}
		o.Sure()
		if o.Peak.Proportional != want || (want == 0) != (len(o.Warnings) == 1) {
			t.Errorf("read at sample %d: %v, %v", at, o.Peak.Proportional, o.Warnings)
		}
	}
}
