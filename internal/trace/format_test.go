package trace

import (
	"testing"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// examples are the beginnings of files, one at least for each format that formatOf tells.
var examples = map[Format][]string{
	Text:       {ownText, "# a remark\n" + ownText},
	Pickle:     {"\x80\x04\x95", "\x80\x02}"},
	FlatCSV:    {flatText, snapshot.CSVHeader + "\r\n"},
	Kineto:     {kineto, "[]", "\n {"},
	MiniMalloc: {packing, "buffer,lower,upper,size\n"},
	Pprof:      {"\x0a\x04\x08\x01\x10\x02"},
}

// TestEveryFormatIsTold: a format has a name, and files that are recognised as it and as no other.
func TestEveryFormatIsTold(t *testing.T) {
	for f := range formatNames {
		if len(examples[f]) == 0 {
			t.Errorf("%v: no example of how its files begin", f)
		}
	}
	for f, list := range examples {
		if f.String() == "" {
			t.Errorf("format %d has no name for people", f)
		}
		for _, head := range list {
			if got := formatOf([]byte(head)); got != f {
				t.Errorf("%.20q is taken for a %v, want a %v", head, got, f)
			}
		}
	}
}
