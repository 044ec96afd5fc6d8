package units

import (
	"testing"

	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"
)

func TestBytesString(t *testing.T) {
	for _, c := range []struct {
		in   Bytes
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {48 * KiB, "48 KiB"}, {5*MiB + 400*KiB, "5.4 MiB"},
		{-2 * GiB, "-2 GiB"}, {8*GiB - 1, "8 GiB"}, {1 << 62, "4096 PiB"},
	} {
		if got := c.in.String(); got != c.want {
			t.Errorf("%d prints %q, want %q", int64(c.in), got, c.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Bytes
		bad  bool
	}{
		{in: "48 KiB", want: 48 * KiB}, {in: "1.5GiB", want: 3 * GiB / 2}, {in: "8GB", want: 8e9}, {in: "4096", want: 4096},
		{in: "2,048 B", want: 2048}, {in: "9223372036854775807", want: 1<<63 - 1},
		{in: "-1", bad: true}, {in: "-1 KiB", bad: true}, {in: "", bad: true}, {in: "KiB", bad: true},
		{in: "3 parsecs", bad: true},
		{in: "9e30", bad: true}, {in: "9000000 PiB", bad: true}, {in: "1.2.3", bad: true},
	} {
		got, err := ParseBytes(c.in)
		if (err != nil) != c.bad || got != c.want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d, error %v", c.in, got, err, c.want, c.bad)
		}
	}
}

func TestParseBytesReadsPlainCountsExactly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := Bytes(rapid.Int64Min(0).Draw(t, "n"))
		if got, err := ParseBytes(Grouped(int64(n))); err != nil || got != n {
			t.Fatalf("%d came back as %d, %v", n, got, err)
		}
	})
}

func TestBytesFromYAML(t *testing.T) {
	var v struct {
		A, B Bytes
	}
	if err := yaml.Load([]byte("a: 49152\nb: 48 KiB\n"), &v); err != nil || v.A != v.B || v.A != 49152 {
		t.Fatalf("got %+v, %v", v, err)
	}
	if err := yaml.Load([]byte("a: -5\n"), &v); err == nil {
		t.Error("a negative size was accepted")
	}
}

func TestRateString(t *testing.T) {
	for in, want := range map[Rate]string{33.8e9: "33.8 GB/s", 1.2e12: "1.2 TB/s", 5e6: "5.0 MB/s", 12: "12 B/s"} {
		if got := in.String(); got != want {
			t.Errorf("%v prints %q, want %q", float64(in), got, want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", -100: "-100"} {
		if got := Grouped(in); got != want {
			t.Errorf("Grouped(%d) = %q, want %q", in, got, want)
		}
	}
}
