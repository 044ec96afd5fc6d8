package predict

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/child"
)

// configuration is a committed one with an environment in the place of its own.
func configuration(t *testing.T, environment string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "cmd", "vlmem", "testdata",
		"advise_i5-10210u+gtx-1080-ti_qwen3-vl-8b.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(data), "\nenvironment:\n")
	_, after, ok := strings.Cut(rest, "\nsamples:\n")
	if !ok {
		t.Fatal("the committed configuration has no environment")
	}
	return file(t, "config.yaml", before+"\n"+environment+"samples:\n"+after)
}

// What advise chose is set; what the user's environment says stays and is named; lines of a file win.
func TestStart(t *testing.T) {
	lines := file(t, "x.env", "# a comment\nA=1\nB=two words\nOMP_NUM_THREADS=2\n")
	whole := configuration(t, "environment:\n  threads: 3\n  pytorch_alloc_conf: expandable_segments:True\n"+
		"  cpus: 0-2,5\n  memory_policy: interleave 0-1\n")
	bound := child.Binding{CPUs: []int{0, 1, 2, 5}, Nodes: []int{0, 1}, Interleave: true}
	const conf = "expandable_segments:True"
	torch := []string{"PYTORCH_ALLOC_CONF=" + conf, "PYTORCH_CUDA_ALLOC_CONF=" + conf}
	for _, c := range []struct {
		name, config, lines string
		own                 map[string]string
		want                []string
		binding             child.Binding
		kept                int
		refused             string
	}{
		{name: "nothing"},
		{name: "lines", lines: lines, want: []string{"A=1", "B=two words", "OMP_NUM_THREADS=2"}},
		{name: "a configuration", config: whole, want: append([]string{"OMP_NUM_THREADS=3"}, torch...), binding: bound},
		{name: "both", config: whole, lines: lines, binding: bound,
			want: slices.Concat([]string{"OMP_NUM_THREADS=3"}, torch, []string{"A=1", "B=two words", "OMP_NUM_THREADS=2"})},
		{name: "the user's own", config: whole, own: map[string]string{"OMP_NUM_THREADS": "8",
			"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, binding: bound, kept: 2},
		{name: "the user's own, alike", config: whole, own: map[string]string{"OMP_NUM_THREADS": "3"}, want: torch,
			binding: bound},
		{name: "from before the section", config: configuration(t, ""), want: []string{"OMP_NUM_THREADS=4"}},
		{name: "no file", lines: lines + "x", refused: "reading --env"},
		{name: "no configuration", config: lines, refused: "x.env"},
		{name: "no threads", config: configuration(t, "environment:\n  threads: 0\n"),
			refused: "config.yaml: environment.threads 0: want above zero"},
		{name: "no CPUs", config: configuration(t, "environment:\n  cpus: 3-1\n"), refused: `environment.cpus "3-1": want`},
		{name: "no policy", config: configuration(t, "environment:\n  memory_policy: bind 0\n"),
			refused: `environment.memory_policy "bind 0": want prefer NODE or interleave NODES`},
		{name: "two lines", config: configuration(t, "environment:\n  pytorch_alloc_conf: \"a\\nLD_PRELOAD=b\"\n"),
			refused: "environment.pytorch_alloc_conf"},
	} {
		own := func(name string) (string, bool) { v, ok := c.own[name]; return v, ok }
		got, err := StartOf(c.config, c.lines, own)
		switch {
		case c.refused != "" && strings.Contains(fmt.Sprint(err), c.refused):
		case c.refused != "" || err != nil:
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		case !slices.Equal(got.Set, c.want) || !reflect.DeepEqual(got.Binding, c.binding) || len(got.Kept) != c.kept:
			t.Errorf("%s: %+v, want %q, %+v and %d kept", c.name, got, c.want, c.binding, c.kept)
		}
	}
}
