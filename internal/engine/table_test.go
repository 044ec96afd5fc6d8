package engine

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
)

// missing is what an engine lacks to be used: a line each.
func missing(t *testing.T, e *Engine) (list []string) {
	lacks := func(what string, args ...any) { list = append(list, fmt.Sprintf(what, args...)) }
	if e.Name == "" || e.Product == "" || e.Version == "" {
		lacks("Name, Product or Version")
	}
	if e.Least < 10 || e.Least%10 > 9 {
		lacks("Least: %d is no compute capability", e.Least)
	}
	if !e.Writes() && !e.Estimates() {
		lacks("Estimate and Write: one at least")
	}
	if e.Estimates() && (e.Weights == NoWeights || len(e.Ladder) == 0) {
		lacks("Weights and Ladder: what it loads, and what to try")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "engines.md"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Page == "" || !strings.Contains(string(page), "\n## "+e.Page+"\n") {
		lacks("Page: docs/engines.md has no heading %q", e.Page)
	}
	if !e.Writes() {
		return list
	}
	if !strings.Contains(string(page), "| "+e.Name+" | ") {
		lacks("a row of docs/engines.md's table of settings")
	}
	first, err := os.ReadFile(filepath.Join("flags", e.list()))
	head, _, _ := strings.Cut(string(first), "\n")
	if release := strings.Fields(e.Version)[0]; err != nil || len(e.Flags()) == 0 || !strings.HasPrefix(head, "# ") ||
		!strings.Contains(head, release) {
		lacks("flags/%s: a first line with the version, then what it takes", e.list())
	}
	return append(list, missingFiles(t, e)...)
}

// missingFiles is what an engine's files lack.
func missingFiles(t *testing.T, e *Engine) (list []string) {
	b, err := Write(e.Name, goldenSettings(t, e))
	if err != nil || len(b.Files) == 0 || len(b.Use) == 0 {
		return []string{fmt.Sprintf("Write: %v, with files and how to use them", err)}
	}
	if len(b.settings) == 0 {
		list = append(list, "Bundle.settings: nothing is held to what the version takes")
	}
	named := !e.Estimates() // settings of an allocator are of no model
	for _, f := range b.Files {
		named = named || slices.ContainsFunc([]string{"Qwen/Qwen3-VL-8B-Instruct", "qwen3-vl-8b", "qwen3 vl"},
			func(name string) bool { return strings.Contains(f.Content, name) })
		if _, err := os.Stat(filepath.Join("testdata", "settings", f.Name)); err != nil && !*update {
			list = append(list, "testdata/settings/"+f.Name+": a golden file, by -update")
		}
	}
	if !named {
		list = append(list, "Write: no file names the model")
	}
	return list
}

func TestEveryEngineIsWhole(t *testing.T) {
	names := map[string]bool{}
	for _, e := range All() {
		for _, what := range missing(t, e) {
			t.Errorf("%s lacks %s", e.Name, what)
		}
		if names[e.Name] {
			t.Errorf("%s stands twice", e.Name)
		}
		names[e.Name] = true
	}
	if Anywhere() == nil || !All()[0].Estimates() {
		t.Error("no engine to fall back on, or to take by default")
	}
}

// An engine of one setting is not whole, and what is missing is named.
func TestHalfAnEngineIsFoundOut(t *testing.T) {
	half := &Engine{Name: "half", Product: "Half", Version: "1.0",
		Write: func(Settings) (*Bundle, error) { return &Bundle{}, nil }}
	list := missing(t, half)
	for _, want := range []string{"Least", "Page", "row", "flags/half-1.0.txt", "Write"} {
		if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("nothing of %s in %q", want, list)
		}
	}
}

// What a version would refuse is not written.
func TestWrittenValuesAreTaken(t *testing.T) {
	e := &Engine{Name: "sglang", Product: "SGLang", Version: sglang.Version}
	for _, s := range []setting{{"dtype", "fp8", ""}, {"no-such-flag", 1, ""}} {
		if e.refuse(s) == nil {
			t.Errorf("%s %v is taken", s.key, s.value)
		}
	}
	if err := e.refuse(setting{"dtype", "bfloat16", ""}); err != nil {
		t.Error(err)
	}
}

// elsewhere are the files where such a name means something else: a rival allocator, whose tiles are compared, or what was
// observed to run at which speed.
var elsewhere = []string{"internal/bench/", "internal/tiling/contest/predict.go", "internal/tiling/baseline.go",
	"internal/workload/llamacpp.go", "internal/rivals/", "internal/speed/", "internal/advise/speed.go"}

// No engine is asked for by name outside this package.
func TestNoEngineIsNamedElsewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "internal/engine" || rel == "tools" || d.Name() == "testdata" ||
			rel != "." && strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") ||
			slices.ContainsFunc(elsewhere, func(e string) bool { return strings.HasPrefix(rel, e) }):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				if slices.Contains(Names(func(*Engine) bool { return true }), text) {
					t.Errorf("%s names the engine %q: ask its fields", rel, text)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goldenSettings is everything that an engine can be told, on a card that it runs on.
func goldenSettings(t *testing.T, e *Engine) Settings {
	g := card(t, "gtx-1080")
	if e.Refuse(g) != nil {
		g = &profile.GPU{}
		*g = newer
	}
	s := whole(t, g)
	if e.Weights != GGUF {
		s.KVType, s.Path = "", ""
	}
	return s
}
