package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every command that promises exit 4 keeps the promise here, or in the test that is named: an estimate of which only
// the high end does not fit, a log that says nothing, a recording without addresses to compare, too few times.
func TestEveryPromiseOfFour(t *testing.T) {
	saved, runs := filepath.Join(t.TempDir(), "saved.json"), write(t, "run.vlmt", run10)
	bench := []string{"bench", "--trace", runs, "--allocators", "vlmem", "--repeats", "1"}
	if r := vlmem(t, nil, append(bench, "--save", saved)...); r.code != 0 {
		t.Fatal(r.stderr)
	}
	quick := regexp.MustCompile(`("repeat_ns": ?\[\s*)[0-9.e+-]+`) // one repeat that took next to nothing decides nothing
	text, err := os.ReadFile(saved)
	if err != nil || !quick.Match(text) {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := os.WriteFile(saved, quick.ReplaceAll(text, []byte("${1}0.001")), 0o600); err != nil {
		t.Fatal(err)
	}
	silent := write(t, "empty.log", "nothing\n")
	kept := map[string]bool{
		"verify": true, // TestVerifySilentLog
		"watch":  true, // TestWatchCards
	}
	for _, args := range [][]string{
		{"gate", "--for", "vllm", "--model", "qwen3-vl-8b", "--hardware", "i5-10210u+rtx-3090", "--ctx", "16000"},
		{"estimate", "--model", "qwen3-vl-2b", "--log", silent},
		{"trace", "check", write(t, "start.csv", "op,addr,size,stream,t_us\ninit_segment,4194304,2097152,0,small\n")},
		append(bench, "--against", saved),
	} {
		r := vlmem(t, nil, args...)
		if r.code != exitInconclusive {
			t.Errorf("%v: exit %d, want 4\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		name, _, _ := strings.Cut(strings.Join(args, " "), " --")
		kept[name], kept[args[0]+" "+args[1]] = true, true
	}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		name := strings.TrimPrefix(c.CommandPath(), "vlmem ")
		text := c.Long + c.Flags().FlagUsages()
		promises := slices.ContainsFunc([]string{"with 4 ", "and 4 ", ", 4 where", "exit 4"}, func(s string) bool {
			return strings.Contains(strings.Join(strings.Fields(text), " "), s)
		})
		if promises && !kept[name] {
			t.Errorf("%s promises exit 4, and nothing here tries it", name)
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(newRootCmd(&environment{}))
}
