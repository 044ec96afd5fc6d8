package main

import (
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/profiles"
)

// hostile are names that mean something to a terminal, a spreadsheet, Markdown, HTML, YAML, a shell or an INI file.
// Files that anybody may have written hold them.
var hostile = []string{
	"plain", "two words", "a\nb", "a\rb", "a\x1b[2J\x1b]0;title\x07b", "a\u009b2Jb", "a\x00b", "a\xff\xfeb", "a\u202eb", "a\tb",
	"=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "a|b|c", "<script>alert(1)</script>", "[x](javascript:alert(1))",
	"`code`", "**bold**", "a: b", "- a", "#comment", "a;b", "'", `"`, `\`, "$(touch ran)", "`touch ran`", "${HOME}", "%0A::error::x",
	"::error::x", "{{.}}", "]]>", "&amp;", "x\n--port 1", "x\nPARAMETER stop y", "x\nkey: value",
}

// TestNoNameBreaksOutOfAWriter gives every writer names of a trace, of call sites and of files that are hostile, and
// reads what it wrote as the program that it is written for does.
func TestNoNameBreaksOutOfAWriter(t *testing.T) {
	for _, name := range hostile {
		folder := t.TempDir()
		site := strings.ToValidUTF8(name, "?")
		text := strings.Replace(run10, `name="short run"`, fmt.Sprintf("name=%q", name), 1)
		text = strings.Replace(text, `"weights.py:3 load"`, fmt.Sprintf("%q", site), 1)
		trace := filepath.Join(folder, "run.vlmt")
		if err := os.WriteFile(trace, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		bench := []string{"bench", "--trace", trace, "--allocators", "bestfit,buddy", "--repeats", "1"}
		for _, c := range [][]string{
			{"trace", "info", trace}, append(bench, "--format", "table"), append(bench, "--format", "markdown"),
			append(bench, "--format", "csv"), append(bench, "--format", "benchfmt"), append(bench, "--format", "github"),
			append(bench, "--format", "yaml"), append(bench, "--format", "json"), append(bench, "--format", "junit"),
			{"trace", "info", trace, "--format", "json"}, {"trace", "info", trace, "--format", "yaml"},
			{"trace", "export", trace, "--to", "csv"}, {"trace", "export", trace, "--to", "perfetto"},
			{"trace", "import", trace},
			{"trace", "info", filepath.Join(folder, strings.Map(fileName, name))},
			{"estimate", "--model", filepath.Join(folder, strings.Map(fileName, name)+".gguf")},
		} {
			got := vlmem(t, nil, slices.Clone(c)...)
			what := fmt.Sprintf("%q through %v", name, c)
			harmless(t, what, got.stdout)
			harmless(t, what, got.stderr)
			if got.code != 0 && strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%s: exit %d with %q", what, got.code, got.stderr)
			}
			readAs(t, what, c[len(c)-1], got.stdout)
		}
	}
}

// TestNoMachineBreaksOutOfAWriter gives a machine, its processor and its card hostile names. Each is refused in one
// line, or what is written of it reads back.
func TestNoMachineBreaksOutOfAWriter(t *testing.T) {
	machine, err := catalog.Hardware("i5-10210u+gtx-1080")
	if err != nil {
		t.Fatal(err)
	}
	formats := []string{"table", "yaml", "json", "csv", "markdown", "html", "github", "junit"}
	for i, name := range hostile {
		machine.Name, machine.CPU.Model, machine.GPUs[0].Name = name, name, name
		data, err := json.Marshal(machine)
		if err != nil {
			t.Fatal(err)
		}
		file := write(t, "machine.json", string(data))
		model := []string{"--model", "qwen3-vl-2b"}
		gate := append([]string{"gate", "--hardware", file, "--for", "llama-server"}, model...)
		estimate := append([]string{"estimate", "--hardware", file, "--engine", "llama.cpp"}, model...)
		for _, args := range [][]string{append([]string{"fleet", file}, model...), gate, estimate,
			append([]string{"advise", "--hardware", file, "--seeds", "1"}, model...)} {
			for _, format := range []string{"csv", formats[i%len(formats)]} { // in turn: all of them take a minute
				got := vlmem(t, nil, append(slices.Clone(args), "--format", format)...)
				if strings.Contains(got.stderr, "--format") {
					continue // not one of the command's
				}
				what := fmt.Sprintf("%q through %s --format %s", name, args[0], format)
				harmless(t, what, got.stdout)
				harmless(t, what, got.stderr)
				if got.code == exitUsage {
					if strings.Count(got.stderr, "\n") != 1 || got.stdout != "" || name == "plain" {
						t.Errorf("%s: exit %d with %q", what, got.code, got.stderr)
					}
					continue
				}
				if format == "html" && strings.Contains(got.stdout, "<script>alert") {
					t.Errorf("%s: the page runs it", what)
				}
				if format != "markdown" { // whose columns differ from bench's
					readAs(t, what, format, got.stdout)
				}
			}
		}
	}
}

// fileName leaves out what no file may be named.
func fileName(r rune) rune {
	if r == '/' || r == 0 {
		return '_'
	}
	return r
}

// harmless fails where a terminal would obey what was written.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && r != '\t' && unicode.IsControl(r) {
			t.Errorf("%s: %U at byte %d of %.200q", what, r, i, text)
			return
		}
	}
	if !utf8.ValidString(text) {
		t.Errorf("%s: no UTF-8: %.200q", what, text)
	}
}

// readAs reads a result as the program does that the format is for.
func readAs(t *testing.T, what, format, text string) {
	t.Helper()
	var err error
	switch format {
	case "csv":
		var rows [][]string
		if rows, err = csv.NewReader(strings.NewReader(text)).ReadAll(); err == nil {
			for _, row := range rows {
				for _, cell := range row {
					if cell != "" && strings.ContainsRune("=+-@|%", rune(cell[0])) {
						t.Errorf("%s: a spreadsheet calculates %q", what, cell)
					}
				}
			}
		}
	case "json", "perfetto":
		var v any
		err = json.Unmarshal([]byte(text), &v)
	case "yaml":
		var v any
		err = yaml.Load([]byte(text), &v)
	case "junit":
		var v struct{}
		err = xml.Unmarshal([]byte(text), &v)
	case "markdown":
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "|") && strings.Count(line, "|")-strings.Count(line, `\|`) != 9 {
				t.Errorf("%s: a row of %q", what, line)
			}
		}
		if shown := strings.ReplaceAll(text, `\<`, ""); strings.Contains(shown, "<script") ||
			strings.Contains(shown, "](java") {
			t.Errorf("%s: %q", what, text)
		}
	}
	if err != nil {
		t.Errorf("%s: %v in %.300q", what, err, text)
	}
}

// TestNoNameBreaksOutOfAnEnginesFiles gives a model hostile names. Each is refused in one line, or the files read back
// hold as many lines and settings as with a plain name.
func TestNoNameBreaksOutOfAnEnginesFiles(t *testing.T) {
	base, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	plain, skipped := map[string]int{}, map[string]bool{}
	for _, name := range hostile {
		m := base
		m.Name, m.Repository = name, name
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &m); err != nil { // what is no UTF-8 is not the same in JSON
			t.Fatal(err)
		}
		model := write(t, "model.json", string(data))
		for _, target := range advise.Targets() {
			if target == advise.Malloc || target == "pytorch" { // these run for seconds and hold no names
				continue
			}
			folder := t.TempDir()
			got := vlmem(t, nil, "advise", "--for", target, "--hardware", "i5-10210u+h200", "--model", model, "-o", folder+"/")
			harmless(t, fmt.Sprintf("%q for %s", name, target), got.stderr)
			entries, err := os.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			if got.code == exitUnable && name == "plain" { // it fits no machine that is built in
				skipped[target] = true
			}
			if skipped[target] {
				continue
			}
			if got.code != 0 {
				if len(entries) != 0 || strings.Count(got.stderr, "\n") != 1 || name == "plain" {
					t.Errorf("%q for %s: exit %d, %d files, %q", name, target, got.code, len(entries), got.stderr)
				}
				continue
			}
			for _, e := range entries {
				text, err := os.ReadFile(filepath.Join(folder, e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				what := fmt.Sprintf("%q in %s", name, e.Name())
				harmless(t, what, string(text))
				key := target + " " + e.Name()
				if name == "plain" {
					plain[key] = strings.Count(string(text), "\n")
				} else if n := strings.Count(string(text), "\n"); n != plain[key] {
					t.Errorf("%s: %d lines, %d with a plain name:\n%s", what, n, plain[key], text)
				}
				engineReads(t, what, e.Name(), string(text), m.Name)
			}
		}
	}
}

// engineReads reads a file as its engine does, as far as a library of ours knows the grammar.
func engineReads(t *testing.T, what, file, text, name string) {
	t.Helper()
	switch filepath.Ext(file) {
	case ".yaml", ".yml":
		var v map[string]any
		if err := yaml.Load([]byte(text), &v); err != nil {
			t.Errorf("%s: %v\n%s", what, err, text)
		} else if model, ok := v["model"].(string); ok && !strings.Contains(model, name) {
			t.Errorf("%s: the model reads back as %q", what, model)
		}
	case ".json":
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Errorf("%s: %v\n%s", what, err, text)
		}
	case ".ini":
		for line := range strings.Lines(text) {
			if line[0] != ';' && strings.ContainsAny(line, ";#") {
				t.Errorf("%s: a comment cuts %q", what, line)
			}
		}
	}
}
