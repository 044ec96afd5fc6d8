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
	if !e.Estimates() && !e.Allocator {
		lacks("Estimate: what it allocates; or Allocator, where its settings are of no model")
	}
	if e.Estimates() && (e.Weights == NoWeights || len(e.Ladder) == 0) {
		lacks("Weights and Ladder: what it loads, and what to try")
	} else if e.Estimates() {
		list = append(list, missingItems(t, e)...)
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
	if e.Version == "" || len(e.Takes) == 0 && !recorded(e) {
		lacks("Takes, or flags/NAME-VERSION.txt with a first line that names the version: what this version takes, " +
			"with the " +
			"values where they are enumerated")
		return list
	}
	return append(list, missingFiles(t, e)...)
}

// recorded reports whether the engine's list of flags is there and says of which version it is.
func recorded(e *Engine) bool {
	text, err := os.ReadFile(filepath.Join("flags", e.list()))
	head, _, _ := strings.Cut(string(text), "\n")
	return err == nil && len(e.Flags()) > 0 && strings.HasPrefix(head, "# ") &&
		strings.Contains(head, strings.Fields(e.Version)[0])
}

// missingItems is what an engine's estimate lacks.
func missingItems(t *testing.T, e *Engine) []string {
	o := Options{Context: 4096, GPU: &newer}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	if e.Host {
		o.Device, o.GPU = "cpu", nil
	}
	mem, err := e.Estimate(model(t, "qwen3-vl-4b"), o)
	if err != nil {
		return []string{"Estimate: " + err.Error()}
	}
	mem.sum()
	if mem.Quant == "" || mem.KVType == "" || mem.ContextTokens == 0 || mem.WeightsBytes == 0 ||
		mem.KVCacheBytes == 0 || mem.ComputeBytes+mem.VisionBytes == 0 {
		return []string{"Estimate: the types of weights and cache, the context, or one of the items weights, KV cache, " +
			"compute or vision"}
	}
	return nil
}

// missingFiles is what an engine's files lack.
func missingFiles(t *testing.T, e *Engine) (list []string) {
	b, err := e.spell(goldenSettings(t, e))
	if err != nil || len(b.Files) == 0 || len(b.Use) == 0 {
		return []string{fmt.Sprintf("Write: %v, with files and how to use them", err)}
	}
	if len(b.settings) == 0 {
		list = append(list, "Bundle.settings: nothing is held to what the version takes")
	}
	named := e.Allocator
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
	half := &Engine{Name: "half", Product: "Half",
		Write: func(Settings) (*Bundle, error) { return &Bundle{}, nil }}
	expect := func(wants ...string) {
		t.Helper()
		list := missing(t, half)
		for _, want := range wants {
			if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, want) }) {
				t.Errorf("nothing of %s in %q", want, list)
			}
		}
	}
	expect("Version", "Least", "Page", "row", "Takes")
	half.Version, half.Takes = "1.0", Flags{"threads": nil}
	expect("Write: <nil>, with files")
	write := func(key, model string) func(Settings) (*Bundle, error) {
		return func(Settings) (*Bundle, error) {
			return &Bundle{Files: []File{{"half.env", model}}, Use: []string{"half"}, settings: lines{{key, 4, ""}}}, nil
		}
	}
	half.Least, half.CPU, half.Write = 50, true, write("thread", "threads=4")
	expect("has no thread")
	half.Write = write("threads", "threads=4")
	if expect("no file names the model"); !*update {
		expect("testdata/settings/half.env")
	}
	half.Estimate, half.Weights, half.Ladder = func(*profile.Model, Options) (*Memory, error) { return &Memory{}, nil },
		Checkpoint, []string{""}
	expect("one of the items weights")
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

// elsewhere are the files where such a name means something else: a rival allocator, whose tiles are compared, or what
// was observed to run at which speed.
var elsewhere = []string{"internal/bench/", "internal/tiling/contest/predict.go", "internal/tiling/baseline.go",
	"internal/workload/llamacpp.go", "internal/rivals/", "internal/speed/"}

// ownFiles are how the names of an engine's own files begin, where that is not its name: one value each, and what
// llama.cpp's server and ollama share with the library.
var ownFiles = map[string][]string{"llama.cpp": {"llama"}, "llama-server": {"llama", "fitparams"},
	"onnxruntime-genai": {"onnxgenai"}}

// ownFile reports whether a file of this package is the engine's own.
func ownFile(file, engine string) bool {
	stems := append([]string{engine}, ownFiles[engine]...)
	return slices.ContainsFunc(stems, func(stem string) bool { return strings.HasPrefix(file, stem) })
}

// No engine is asked for by name outside its own file and the table.
func TestNoEngineIsNamedElsewhere(t *testing.T) {
	root := filepath.Join("..", "..")
	all := Names(func(*Engine) bool { return true })
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		rel = filepath.ToSlash(rel)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "tools" || d.Name() == "testdata" || rel != "." && strings.HasPrefix(d.Name(), ".")):
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
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, _ := strconv.Unquote(lit.Value)
			own := strings.HasPrefix(rel, "internal/engine/") && ownFile(d.Name(), text)
			if slices.Contains(all, text) && !own {
				t.Errorf("%s names the engine %q: ask its fields", rel, text)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each engine's value stands in a file of its own, and is spoken of there and in the table alone.
func TestEnginesStandInOneFile(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	home := map[string]string{} // of each value: its file
	uses := map[string][]string{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				for name := range enginesIn(g) {
					home[name] = path
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if pair, ok := n.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.Ident); ok && key.Name == "Kernels" {
					return false // which says whose they are
				}
			}
			if id, ok := n.(*ast.Ident); ok {
				uses[id.Name] = append(uses[id.Name], path)
			}
			return true
		})
	}
	if len(home) != len(All()) {
		t.Errorf("%d values for %d engines of the table", len(home), len(All()))
	}
	for name, path := range home {
		for other, at := range home {
			if other != name && at == path {
				t.Errorf("%s holds %s and %s", path, name, other)
			}
		}
		for _, used := range uses[name] {
			if used != path && used != "table.go" && !strings.HasPrefix(used, "llama") && used != "fitparams.go" {
				t.Errorf("%s speaks of %s, which stands in %s", used, name, path)
			}
		}
	}
}

// enginesIn are the names of the engines that a declaration makes.
func enginesIn(g *ast.GenDecl) map[string]bool {
	names := map[string]bool{}
	for _, spec := range g.Specs {
		v, ok := spec.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 {
			continue
		}
		if made, ok := v.Values[0].(*ast.CompositeLit); ok {
			if kind, ok := made.Type.(*ast.Ident); ok && kind.Name == "Engine" {
				names[v.Names[0].Name] = true
			}
		}
	}
	return names
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
