package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
)

// TestCommandReference holds docs/commands.md to the commands themselves; -update writes it.
func TestCommandReference(t *testing.T) {
	const path = "../../docs/commands.md"
	var b strings.Builder
	b.WriteString("# Commands\n\nWritten from the commands' own help by `go test ./cmd/vlmem -update`.\n")
	reference(&b, newRootCmd(&environment{}))
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != b.String() {
		t.Errorf("%s is not what the commands say; run go test ./cmd/vlmem -update", path)
	}
}

// TestEveryCommandIsListed: the tables of README.md and docs/design.md have a row for every command.
func TestEveryCommandIsListed(t *testing.T) {
	for _, path := range []string{"../../README.md", "../../docs/design.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, cmd := range newRootCmd(&environment{}).Commands() {
			about := slices.Contains([]string{"help", "completion", "version"}, cmd.Name()) // of the program itself
			row := regexp.MustCompile("(?m)^\\| `vlmem " + cmd.Name() + "[ `]")
			if !cmd.Hidden && !about && !row.Match(text) {
				t.Errorf("%s: no row for vlmem %s", path, cmd.Name())
			}
		}
	}
}

func reference(b *strings.Builder, cmd *cobra.Command) {
	if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
		return
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", cmd.CommandPath(), text)
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(b, "\n    %s\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n%s\n", indent(cmd.Example))
	}
	if flags := cmd.LocalFlags().FlagUsagesWrapped(100); flags != "" {
		fmt.Fprintf(b, "\nFlags:\n\n%s", indent(flags))
	}
	for _, sub := range cmd.Commands() {
		reference(b, sub)
	}
}

// indent makes a code block of text: four blanks before each line, whatever stood there.
func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			b.WriteString("    " + strings.TrimPrefix(line, "  "))
		}
		b.WriteString("\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// TestExamplesNameWhatIsThere loads every model and hardware that an example names.
func TestExamplesNameWhatIsThere(t *testing.T) {
	var walk func(*cobra.Command) int
	walk = func(cmd *cobra.Command) int {
		found := 0
		for _, m := range regexp.MustCompile(`--(model|hardware) ([a-z][^ \n]*)`).FindAllStringSubmatch(cmd.Example, -1) {
			if strings.HasSuffix(m[2], ".yaml") || strings.HasSuffix(m[2], ".json") || strings.Contains(m[2], "/") {
				continue
			}
			var err error
			if found++; m[1] == "model" {
				_, err = catalog.Model(m[2])
			} else {
				_, err = catalog.Hardware(m[2])
			}
			if err != nil {
				t.Errorf("%s: --%s %s: %v", cmd.CommandPath(), m[1], m[2], err)
			}
		}
		for _, sub := range cmd.Commands() {
			found += walk(sub)
		}
		return found
	}
	if n := walk(newRootCmd(&environment{})); n < 5 {
		t.Errorf("only %d names found", n)
	}
}
