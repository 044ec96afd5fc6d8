package vlmem

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/tools/go/packages"
)

// prose are the fields and variables that hold sentences for people: warnings, reasons, notes, errors. What a program
// must tell apart has a code.
var prose = regexp.MustCompile(`^(?i:text|why|reasons?|warnings?|notes?|message|advice|refused|complaint)$`)

// outsiders are the files that search a Name whose words are another program's, and whose they are.
var outsiders = map[string]string{
	"internal/trace/snapshot/site.go":     "functions in a PyTorch snapshot's stacks",
	"internal/trace/container.go":         "members of an archive",
	"internal/engine/torch_weights.go":    "tensors of a checkpoint",
	"internal/engine/served.go":           "modules and tensors of a checkpoint",
	"internal/engine/weights/model.go":    "tensors of a GGUF file",
	"internal/engine/vllm.go":             "cards, as vLLM tells them apart itself",
	"internal/profile/bounds.go":          "kinds of core and of bounds, of closed lists in YAML",
	"internal/speed/machine.go":           "kinds of core, of a closed list in YAML",
	"internal/placement/machine.go":       "the parts of a model, named by this room alone",
	"internal/settings/words.go":          "flags",
	"internal/probe/integrated.go":        "AMD's and Intel's cards by model, where the kernel tells no more",
	"internal/engine/llamacpp_cpu.go":     "types of GGUF",
	"tools/card/readings.go":              "items in the JSON that a run left",
	"internal/engine/llamacpp_place.go":   "tensors of a GGUF file, by pattern as llama.cpp does",
	"internal/engine/llamacpp_tensors.go": "tensors shared out over cards, by pattern as llama.cpp does",
}

// layout are the files that look at a sentence to draw it, and what they look for.
var layout = map[string]string{
	"internal/report/table.go":   "outcomes of closed lists, shown in colour",
	"internal/report/visible.go": "characters that a terminal would obey",
	"internal/report/fold.go":    "codes of colours, which take no columns",
}

// TestNothingBranchesOnTheWordsOfAMessage follows sentences through the whole program: variables, fields, parameters
// and results that hold one, and what is cut from it or joined of it.
func TestNothingBranchesOnTheWordsOfAMessage(t *testing.T) {
	list, err := packages.Load(&packages.Config{Mode: packages.LoadSyntax}, "./...")
	if err != nil || packages.PrintErrors(list) > 0 {
		t.Fatal("loading the program", err)
	}
	f := newFollower()
	for _, p := range list {
		if !strings.HasSuffix(p.PkgPath, "/alloctest") { // its scripts hold what tests expect
			f.parts = append(f.parts, part{p.Syntax, p.TypesInfo})
		}
	}
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	needed := map[string]bool{}
	for _, s := range f.searches() {
		at := list[0].Fset.Position(s.at)
		file, err := filepath.Rel(root, at.Filename)
		if err != nil {
			t.Fatal(err)
		}
		file = filepath.ToSlash(file)
		if s.name && outsiders[file] != "" || !s.name && layout[file] != "" {
			needed[file] = true
		} else {
			t.Errorf("%s:%d: decides by the words of a message or a name: give it a code, a kind or a field", file, at.Line)
		}
	}
	for _, exempt := range []map[string]string{outsiders, layout} {
		for file := range exempt {
			if !needed[file] {
				t.Errorf("%s: searches no words, and needs no line above", file)
			}
		}
	}
}

// TestProseSearchesAreFound holds the finder to what it must see and must leave alone.
func TestProseSearchesAreFound(t *testing.T) {
	fset := token.NewFileSet()
	std := standard{}
	list, err := packages.Load(&packages.Config{Mode: packages.LoadTypes}, "bytes", "errors", "fmt", "regexp", "slices",
		"strings")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		std[p.PkgPath] = p.Types
	}
	for text, want := range proseCases {
		source := fmt.Sprintf(proseFrame, text)
		file, err := parser.ParseFile(fset, "x.go", source, 0)
		if err != nil {
			t.Fatal(err)
		}
		info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{},
			Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
		if _, err := (&types.Config{Importer: std}).Check("x", fset, []*ast.File{file}, info); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		f := newFollower(part{[]*ast.File{file}, info})
		if got := len(f.searches()); got != want {
			t.Errorf("%s: %d found, want %d", text, got, want)
		}
	}
}

// standard are packages of the standard library, imported.
type standard map[string]*types.Package

func (s standard) Import(path string) (*types.Package, error) { return s[path], nil }

// proseFrame is the file around a case, in which each import has a use.
const proseFrame = `package x

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

type Code string

type Warning struct {
	Code Code
	Text string
	Name string
}

func (w Warning) String() string { return w.Text }

type row struct{ label, Why string }

func warnings() []Warning { return nil }

func about(w Warning) string { return strings.TrimSpace(w.Text) }

func isCard(c rune) bool { return c == 'c' }

func in[T ~string](s, word T) bool { return strings.Contains(string(s), string(word)) }

func first[T any](list []T) T { return list[0] }

type box[T any] struct{ held T }

func (b box[T]) get() T { return b.held }

type teller interface{ tell() string }

func (r row) tell() string { return r.Why }

func has(s, word string) bool { return slices.Contains([]string{"a"}, s) && word != "" }

var _, _, _, _ = bytes.Contains, errors.New, fmt.Sprint, regexp.MustCompile

func f(w Warning, ws []Warning, err error, path string, seen map[string]bool, r row) any {
	%s
}
`

// proseCases are bodies of a function, and how often they decide by words.
var proseCases = map[string]int{
	`return strings.Contains(w.Text, "card")`:                                                           1,
	`return strings.Contains(ws[0].Text, "card")`:                                                       1,
	`return strings.Contains((w.Text), "card")`:                                                         1,
	`return strings.Contains((&w).Text, "card")`:                                                        1,
	`return strings.Contains(warnings()[0].Text, "card")`:                                               1,
	`for _, x := range ws { if strings.Contains(x.Text, "card") { return 1 } }; return 0`:               1,
	`s := w.Text; t := s; return strings.HasPrefix(t, "card")`:                                          1,
	`var s string; s = w.Text; return strings.HasSuffix(s, "card")`:                                     1,
	`return strings.Contains(about(w), "card")`:                                                         1,
	`return strings.Contains(w.String(), "card")`:                                                       1,
	`return strings.Contains(fmt.Sprint(w), "card")`:                                                    1,
	`return strings.Contains(fmt.Sprintf("%%v", err), "card")`:                                          1,
	`return strings.Index(err.Error(), "no space")`:                                                     1,
	`e := err.Error(); return e == "no space"`:                                                          1,
	`return strings.Contains(strings.Join([]string{w.Text}, " "), "card")`:                              1,
	`var l []string; for _, x := range ws { l = append(l, x.Text) }; return slices.Contains(l, "card")`: 1,
	`var b strings.Builder; b.WriteString(w.Text); return strings.Contains(b.String(), "card")`:         1,
	`var b strings.Builder; fmt.Fprint(&b, err); return strings.Contains(b.String(), "card")`:           1,
	`return strings.ContainsRune(w.Text, 'c')`:                                                          1,
	`return strings.ContainsAny(w.Text, "abc")`:                                                         1,
	`return strings.IndexByte(w.Text, 'c')`:                                                             1,
	`return strings.EqualFold("card", w.Text)`:                                                          1,
	`return strings.Count(w.Text, "card") > 0`:                                                          1,
	`_, _, ok := strings.Cut(w.Text, "card"); return ok`:                                                1,
	`return len(strings.Split(w.Text, "card")) > 1`:                                                     1,
	`return strings.Fields(w.Text)[0] == "card"`:                                                        1,
	`return w.Text[0] == 'c'`:                                                                           1,
	`return w.Text[:4] == "card"`:                                                                       1,
	`for _, c := range w.Text { if c == 'c' { return 1 } }; return 0`:                                   1,
	`return bytes.Contains([]byte(w.Text), []byte("card"))`:                                             1,
	`return regexp.MustCompile("card").MatchString(w.Text)`:                                             1,
	`return regexp.MustCompile("card").FindString(w.Text) != ""`:                                        1,
	`ok, _ := regexp.MatchString("card", w.Text); return ok`:                                            1,
	`return w.Text == "card"`:                                                                           1,
	`const word = "card"; return word != w.Text`:                                                        1,
	`word := "card"; return w.Text == word`:                                                             1,
	`switch w.Text { case "card": return 1 }; return 0`:                                                 1,
	`switch { case r.Why == "card": return 1 }; return 0`:                                               1,
	`switch strings.ToLower(r.Why) { case "card": return 1 }; return 0`:                                 1,
	`return map[string]int{"card": 1}[w.Text]`:                                                          1,
	`return seen[w.Text]`:                                                                               1,
	`return slices.Contains([]string{"card"}, w.Text)`:                                                  1,
	`r.label = w.Text; return strings.Contains(r.label, "card")`:                                        1,
	`x := row{label: w.Text}; return x.label == "card"`:                                                 1,
	`x := row{w.Text, ""}; return x.label == "card"`:                                                    1,
	`return has(w.Text, "card")`:                                                                        1,
	`return strings.ReplaceAll(w.Text, "card", "") == strings.ReplaceAll(ws[0].Text, "x", "")`:          1,
	`var n int; fmt.Sscanf(w.Text, "card %%d", &n); return n`:                                           1,
	`return strings.HasPrefix(w.Name, "device")`:                                                        1,
	`return (w.Name) == "device"`:                                                                       1,
	`switch w.Name { case "device": return 1 }; return 0`:                                               1,

	`for p := range strings.SplitSeq(w.Text, ",") { if p == "card" { return 1 } }; return 0`: 1,
	`for p := range strings.FieldsSeq(w.Text) { if p == "card" { return 1 } }; return 0`:     1,
	`for p := range strings.Lines(w.Text) { if p == "card" { return 1 } }; return 0`:         1,
	`for range strings.SplitAfterSeq(w.Text, "card") { return 1 }; return 0`:                 1,
	`for p := range strings.FieldsFuncSeq(w.Text, isCard) { return p }; return 0`:            1,
	`return len(strings.FieldsFunc(w.Text, isCard))`:                                         1,
	`return strings.LastIndexFunc(w.Text, isCard)`:                                           1,
	`return strings.IndexFunc(w.Text, func(c rune) bool { return c == 'c' })`:                2, // the literal too
	`return len(strings.SplitAfterN(w.Text, "card", 2))`:                                     1,
	`for x := range map[string]int{w.Text: 1} { if x == "card" { return 1 } }; return 0`:     1,
	`return in(w.Text, "card")`:                                                                 1,
	`return in[string](w.Text, "card")`:                                                         1,
	`return slices.Contains[[]string]([]string{"card"}, w.Text)`:                                1,
	`return first([]string{w.Text}) == "card"`:                                                  1,
	`return box[string]{w.Text}.held == "card"`:                                                 1,
	`b := box[string]{held: w.Text}; return b.get() == "card"`:                                  1,
	`c := make(chan string, 1); c <- w.Text; return <-c == "card"`:                              1,
	`c := make(chan string, 1); c <- w.Text; s := <-c; return s == "card"`:                      1,
	`c := make(chan string, 1); c <- w.Text; for s := range c { return s == "card" }; return 0`: 1,
	`c := make(chan Warning, 1); c <- w; return (<-c).Text == "card"`:                           1,
	`has := strings.Contains; return has(w.Text, "card")`:                                       1,
	`has := func(s string) bool { return s == "card" }; return has(w.Text)`:                     1,
	`return func(s string) bool { return s == "card" }(w.Text)`:                                 1,
	`return slices.ContainsFunc([]string{w.Text}, func(s string) bool { return s == "card" })`:  2,
	`return slices.IndexFunc([]string{w.Text}, func(s string) bool { return s == path }) > 0`:   2,
	`var l teller = r; return l.tell() == "card"`:                                               1,

	`return w.Text == ""`:                                         0,
	`return w.Code == "slow"`:                                     0,
	`return strings.Contains(path, "/lib/")`:                      0,
	`return strings.TrimSpace(w.Text) == ""`:                      0,
	`return strings.Join(strings.Fields(err.Error()), " ") == ""`: 0,
	`return strings.Split(w.Text, "\n")`:                          0,
	`return strings.ContainsRune(w.Text, '\n')`:                   0,
	`if !seen[w.Text] { seen[w.Text] = true }; return 0`:          0, // told once
	`return ws[0].Text == w.Text`:                                 0,
	`return errors.Is(err, nil) || err == nil`:                    0,
	`return w.Name == path`:                                       0, // looked up
	`return strings.ReplaceAll(w.Text, "card", "it")`:             0,
	`text := path; return text == "card"`:                         0, // what a parser reads is called text
}

// part is a package as it is followed.
type part struct {
	files []*ast.File
	info  *types.Info
}

// follower finds what holds sentences, and where a program decides by their words. It is blind to what goes through a
// value of type any, and to a function that is kept in a field or handed on.
type follower struct {
	parts []part
	held  map[types.Object]bool         // variables, fields, parameters and functions whose results are sentences
	does  map[types.Object]*ast.FuncLit // what a variable does, where it is given a literal
	more  bool                          // something was found to hold one in this round
}

func newFollower(parts ...part) *follower {
	return &follower{parts: parts, held: map[types.Object]bool{}, does: map[types.Object]*ast.FuncLit{}}
}

// search is a place that decides by the words of a sentence, or of a name.
type search struct {
	at   token.Pos
	name bool
}

// searches are all such places.
func (f *follower) searches() (found []search) {
	for f.more = true; f.more; {
		f.more = false
		for _, p := range f.parts {
			for _, file := range p.files {
				f.follow(p.info, file)
			}
		}
	}
	for _, p := range f.parts {
		for _, file := range p.files {
			ast.Inspect(file, func(n ast.Node) bool {
				for _, name := range []bool{false, true} {
					if n != nil && f.decides(p.info, n, name) {
						found = append(found, search{n.Pos(), name})
						break
					}
				}
				return true
			})
		}
	}
	return found
}

// follow marks what a file gives a sentence to.
func (f *follower) follow(info *types.Info, file *ast.File) {
	var functions []*types.Func
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			fn, _ := info.Defs[n.Name].(*types.Func)
			functions = append(functions[:0], fn)
			f.results(info, fn, n)
		case *ast.AssignStmt:
			f.assign(info, n.Lhs, n.Rhs)
		case *ast.ValueSpec:
			names := make([]ast.Expr, len(n.Names))
			for i, name := range n.Names {
				names[i] = name
			}
			f.assign(info, names, n.Values)
		case *ast.RangeStmt:
			if f.speaks(info, n.X) {
				f.ranged(info, n)
			}
		case *ast.SendStmt:
			if f.speaks(info, n.Value) {
				f.hold(info, n.Chan)
			}
		case *ast.CompositeLit:
			f.fields(info, n)
		case *ast.CallExpr:
			f.arguments(info, n)
		}
		return true
	})
}

// ranged marks what a loop over sentences gives its variables: of lists the second is one, of sets, channels and
// sequences the first may be.
func (f *follower) ranged(info *types.Info, loop *ast.RangeStmt) {
	if loop.Value != nil {
		f.hold(info, loop.Value)
	}
	switch info.TypeOf(loop.X).Underlying().(type) {
	case *types.Map, *types.Chan, *types.Signature:
		if loop.Key != nil {
			f.hold(info, loop.Key)
		}
	}
}

// results marks a function that returns a sentence.
func (f *follower) results(info *types.Info, fn *types.Func, d *ast.FuncDecl) {
	if d.Body == nil || fn == nil {
		return
	}
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			for _, r := range n.Results {
				if f.speaks(info, r) {
					f.mark(fn)
				}
			}
			if len(n.Results) == 0 {
				for v := range fn.Signature().Results().Variables() {
					if f.held[v] {
						f.mark(fn)
					}
				}
			}
		}
		return true
	})
}

func (f *follower) assign(info *types.Info, to, from []ast.Expr) {
	for i, x := range to {
		if name, ok := x.(*ast.Ident); ok && len(from) == len(to) {
			if does, ok := from[i].(*ast.FuncLit); ok {
				f.does[info.ObjectOf(name)] = does
			}
		}
		if pair, ok := x.(*ast.IndexExpr); ok && f.speaks(info, pair.Index) {
			f.hold(info, pair.X) // a set of sentences
		}
		if len(from) == len(to) && f.speaks(info, from[i]) || len(from) == 1 && len(to) > 1 && f.speaks(info, from[0]) {
			f.hold(info, x)
		}
	}
}

// fields marks the fields of a literal that are given sentences.
func (f *follower) fields(info *types.Info, lit *ast.CompositeLit) {
	s, ok := info.TypeOf(lit).Underlying().(*types.Struct)
	if !ok {
		return
	}
	for i, e := range lit.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok && f.speaks(info, pair.Value) {
				f.mark(info.Uses[key])
			}
		} else if f.speaks(info, e) {
			f.mark(s.Field(i))
		}
	}
}

// arguments marks the parameters of the program's own functions, and a buffer that a sentence is written to.
func (f *follower) arguments(info *types.Info, call *ast.CallExpr) {
	f.literals(info, call)
	fn := callee(info, call)
	if fn == nil {
		return
	}
	params := fn.Signature().Params()
	spoken := false
	for i, a := range call.Args {
		if f.speaks(info, a) || formats(fn) && carriesError(info.TypeOf(a)) {
			spoken = true
			if at := min(i, params.Len()-1); at >= 0 && f.ours(fn) {
				f.mark(params.At(at))
			}
		}
	}
	if !spoken {
		return
	}
	if s, ok := call.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(fn.Name(), "Write") {
		f.hold(info, s.X)
	}
	if strings.HasPrefix(fn.Name(), "Fprint") {
		f.hold(info, call.Args[0])
	}
}

// literals marks the parameters of a function literal that is called with a sentence, or handed to what is.
func (f *follower) literals(info *types.Info, call *ast.CallExpr) {
	if !slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return f.speaks(info, a) }) {
		return
	}
	for i, e := range append([]ast.Expr{call.Fun}, call.Args...) {
		does, ok := ast.Unparen(e).(*ast.FuncLit)
		if name, named := e.(*ast.Ident); named {
			does, ok = f.does[info.ObjectOf(name)]
		}
		if !ok {
			continue
		}
		at := 0
		for _, field := range does.Type.Params.List {
			for _, name := range field.Names {
				if _, rest := field.Type.(*ast.Ellipsis); i > 0 || rest || at < len(call.Args) && f.speaks(info, call.Args[at]) {
					f.hold(info, name)
				}
				at++
			}
		}
	}
}

// ours reports whether a function is of the program that is followed.
func (f *follower) ours(fn *types.Func) bool {
	return fn.Pkg() != nil && (within(fn.Pkg().Path(), module) || fn.Pkg().Path() == "x")
}

// hold marks the variable or field that an expression is, or is a part of.
func (f *follower) hold(info *types.Info, e ast.Expr) {
	switch e := e.(type) {
	case *ast.Ident:
		if o := info.ObjectOf(e); o != nil {
			f.mark(o)
		}
	case *ast.SelectorExpr:
		f.mark(info.Uses[e.Sel])
	case *ast.IndexExpr:
		f.hold(info, e.X)
	case *ast.StarExpr:
		f.hold(info, e.X)
	case *ast.UnaryExpr:
		f.hold(info, e.X)
	case *ast.ParenExpr:
		f.hold(info, e.X)
	}
}

func (f *follower) mark(o types.Object) {
	o = origin(o)
	if o == nil || f.held[o] || o.Name() == "_" {
		return
	}
	if v, ok := o.(*types.Var); ok && !carriesWords(v.Type()) {
		return
	}
	f.held[o], f.more = true, true
}

// origin is the field or function of a generic type or function that o is an instance of, or o.
func origin(o types.Object) types.Object {
	switch o := o.(type) {
	case *types.Var:
		return o.Origin()
	case *types.Func:
		return o.Origin()
	}
	return o
}

// holds reports whether a variable, field or function was found to hold or give a sentence, or is the method of an
// interface that one which does stands for.
func (f *follower) holds(o types.Object) bool {
	if o = origin(o); f.held[o] {
		return true
	}
	fn, ok := o.(*types.Func)
	if !ok || fn.Signature().Recv() == nil || !types.IsInterface(fn.Signature().Recv().Type()) {
		return false
	}
	for other := range f.held {
		if is, ok := other.(*types.Func); ok && is.Name() == fn.Name() && is.Signature().Recv() != nil &&
			types.Implements(is.Signature().Recv().Type(), fn.Signature().Recv().Type().Underlying().(*types.Interface)) {
			return true
		}
	}
	return false
}

// speaks reports whether an expression is a sentence, or is cut from one or joined of one.
func (f *follower) speaks(info *types.Info, e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return f.speaks(info, e.X)
	case *ast.StarExpr:
		return f.speaks(info, e.X)
	case *ast.UnaryExpr:
		return f.speaks(info, e.X)
	case *ast.IndexExpr:
		return f.speaks(info, e.X)
	case *ast.SliceExpr:
		return f.speaks(info, e.X)
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (f.speaks(info, e.X) || f.speaks(info, e.Y))
	case *ast.Ident:
		return f.tells(info.ObjectOf(e)) && e.Name != "text" || f.holds(info.ObjectOf(e)) // a parser reads a text
	case *ast.SelectorExpr:
		return f.tells(info.Uses[e.Sel]) || f.holds(info.Uses[e.Sel])
	case *ast.CompositeLit:
		switch info.TypeOf(e).Underlying().(type) {
		case *types.Slice, *types.Array, *types.Map:
			return slices.ContainsFunc(e.Elts, func(x ast.Expr) bool { return f.speaks(info, x) })
		}
	case *ast.KeyValueExpr:
		return f.speaks(info, e.Key) || f.speaks(info, e.Value)
	case *ast.CallExpr:
		return f.returns(info, e)
	}
	return false
}

// tells reports whether a variable or field is one for sentences by its name.
func (f *follower) tells(o types.Object) bool {
	v, ok := o.(*types.Var)
	return ok && prose.MatchString(v.Name()) && plainWords(v.Type())
}

// returns reports whether a call gives a sentence.
func (f *follower) returns(info *types.Info, call *ast.CallExpr) bool {
	spoken := func() bool {
		return slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return f.speaks(info, a) })
	}
	if info.Types[call.Fun].IsType() {
		return spoken() && carriesWords(info.TypeOf(call))
	}
	fn := callee(info, call)
	if fn == nil {
		name, ok := call.Fun.(*ast.Ident)
		return ok && name.Name == "append" && spoken()
	}
	s, method := call.Fun.(*ast.SelectorExpr)
	method = method && fn.Signature().Recv() != nil
	switch {
	case f.ours(fn):
		return f.holds(fn)
	case method && fn.Name() == "Error":
		return true
	case method:
		return carriesWords(info.TypeOf(call)) && (f.speaks(info, s.X) || spoken())
	case formats(fn) && slices.ContainsFunc(call.Args, func(a ast.Expr) bool { return carriesError(info.TypeOf(a)) }):
		return carriesWords(info.TypeOf(call))
	}
	return carriesWords(info.TypeOf(call)) && spoken()
}

// seekers are functions that look for words.
var seekers = regexp.MustCompile(
	`^(Contains|ContainsAny|ContainsRune|ContainsFunc|HasPrefix|HasSuffix|Index|IndexAny|` +
		`IndexByte|IndexRune|IndexFunc|LastIndex(Any|Byte|Func)?|EqualFold|Equal|Compare|Cut|CutPrefix|CutSuffix|` +
		`FieldsFunc(Seq)?|Count|Split(After)?(N|Seq)?|Match|MatchString|Find.*|Sscanf?|Sscanln|BinarySearch(Func)?)$`)

// decides reports whether a node looks for words in a sentence, or in a name. What holds no letter is layout.
func (f *follower) decides(info *types.Info, n ast.Node, name bool) bool {
	speaks := f.speaks
	if name {
		speaks = names
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		fn := callee(info, n)
		if fn == nil && !name {
			return f.unknown(info, n)
		}
		if fn == nil || f.ours(fn) || !seekers.MatchString(fn.Name()) {
			return false
		}
		spoken, sought := 0, fn.Pkg().Path() == "regexp"
		for _, a := range n.Args {
			if speaks(info, a) {
				spoken++
			} else if !name || literal(a) {
				sought = sought || letters(info, a)
			}
		}
		return spoken > 0 && sought
	case *ast.BinaryExpr:
		if !slices.Contains(comparisons, n.Op) || info.Types[n.X].IsNil() || info.Types[n.Y].IsNil() {
			return false
		}
		x, y := speaks(info, n.X), speaks(info, n.Y)
		if x && y {
			return !name && (called(n.X) || called(n.Y))
		}
		if name && !literal(n.X) && !literal(n.Y) {
			return false // a name looked up, or one of a closed list of constants
		}
		return x && letters(info, n.Y) || y && letters(info, n.X)
	case *ast.SwitchStmt:
		return n.Tag != nil && speaks(info, n.Tag) && (!name || literals(n.Body))
	case *ast.IndexExpr:
		_, table := info.TypeOf(n.X).Underlying().(*types.Map)
		return table && !name && speaks(info, n.Index) && !speaks(info, n.X)
	}
	return false
}

// unknown reports whether a call of a value, of which it is not known what it does, is given a sentence and words, and
// answers with a yes, a no or a place.
func (f *follower) unknown(info *types.Info, call *ast.CallExpr) bool {
	if t := info.Types[call.Fun]; t.IsType() || t.IsBuiltin() {
		return false
	}
	spoken, words := false, false
	for _, a := range call.Args {
		words = words || info.Types[a].Value != nil && letters(info, a)
		spoken = spoken || f.speaks(info, a)
	}
	answer, ok := info.TypeOf(call).(*types.Basic)
	return spoken && words && ok && answer.Info()&(types.IsBoolean|types.IsInteger) != 0
}

var comparisons = []token.Token{token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ}

// letters reports whether what is sought holds letters, or is not known here.
func letters(info *types.Info, e ast.Expr) bool {
	v := info.Types[e].Value
	if v == nil {
		return true
	}
	if v.Kind() == constant.Int {
		n, _ := constant.Int64Val(v)
		return unicode.IsLetter(rune(n))
	}
	return v.Kind() == constant.String && strings.ContainsFunc(constant.StringVal(v), unicode.IsLetter)
}

// called reports whether an expression is worked out by a call: what is cut from two sentences is not two.
func called(e ast.Expr) bool {
	_, ok := ast.Unparen(e).(*ast.CallExpr)
	return ok
}

func literal(e ast.Expr) bool {
	_, ok := ast.Unparen(e).(*ast.BasicLit)
	return ok
}

// literals reports whether a case of a switch is a literal.
func literals(cases *ast.BlockStmt) bool {
	return slices.ContainsFunc(cases.List, func(s ast.Stmt) bool {
		return slices.ContainsFunc(s.(*ast.CaseClause).List, literal)
	})
}

// names reports whether an expression is a field Name, or is cut from one.
func names(info *types.Info, e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.SelectorExpr:
		v, ok := info.Uses[e.Sel].(*types.Var)
		return ok && v.Name() == "Name" && plainWords(v.Type())
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (names(info, e.X) || names(info, e.Y))
	case *ast.CallExpr:
		fn := callee(info, e)
		return fn != nil && (fn.Name() == "ToLower" || fn.Name() == "TrimSpace") && len(e.Args) > 0 && names(info, e.Args[0])
	}
	return false
}

// callee is the function or method that a call names, nil where it calls a value or a built-in.
func callee(info *types.Info, call *ast.CallExpr) *types.Func {
	var name *ast.Ident
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		name = fun
	case *ast.SelectorExpr:
		name = fun.Sel
	case *ast.IndexExpr:
		return callee(info, &ast.CallExpr{Fun: fun.X})
	case *ast.IndexListExpr:
		return callee(info, &ast.CallExpr{Fun: fun.X})
	}
	if name == nil {
		return nil
	}
	fn, _ := info.Uses[name].(*types.Func)
	if fn == nil {
		return nil
	}
	return fn.Origin()
}

// formats reports whether a function writes values as text.
func formats(fn *types.Func) bool {
	return fn.Pkg() != nil && fn.Pkg().Path() == "fmt" && fn.Name() != "Errorf"
}

// carriesError reports whether a value is an error or a warning, whose text is a sentence.
func carriesError(t types.Type) bool {
	if types.Implements(t, types.Universe.Lookup("error").Type().Underlying().(*types.Interface)) {
		return true
	}
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == "Warning"
}

// plainWords reports whether a type is string, or a list of them: one with a name of its own is a code.
func plainWords(t types.Type) bool {
	switch t := types.Unalias(t).(type) {
	case *types.Basic:
		return t.Info()&types.IsString != 0
	case *types.Slice:
		return plainWords(t.Elem())
	case *types.Map:
		return plainWords(t.Elem())
	}
	return false
}

// carriesWords reports whether a value can hold a sentence or part of one.
func carriesWords(t types.Type) bool {
	if t == nil {
		return false
	}
	switch u := t.Underlying().(type) {
	case *types.Basic:
		return u.Info()&types.IsString != 0 || u.Kind() == types.Byte || u.Kind() == types.Rune
	case *types.Slice:
		return carriesWords(u.Elem())
	case *types.Array:
		return carriesWords(u.Elem())
	case *types.Map:
		return carriesWords(u.Elem()) || carriesWords(u.Key())
	case *types.Pointer:
		return carriesWords(u.Elem())
	case *types.Chan:
		return carriesWords(u.Elem())
	case *types.Signature: // of a sequence, what it yields
		return u.Params().Len() == 1 && u.Results().Len() == 0 && yields(u.Params().At(0).Type())
	case *types.Interface:
		_, any := types.Unalias(t).(*types.TypeParam)
		return any
	case *types.Tuple:
		for v := range u.Variables() {
			if carriesWords(v.Type()) {
				return true
			}
		}
	}
	n, ok := types.Unalias(t).(*types.Named)
	return ok && slices.Contains([]string{"Builder", "Buffer", "Reader", "Scanner"}, n.Obj().Name())
}

// yields reports whether a sequence's function takes what can hold a sentence.
func yields(t types.Type) bool {
	s, ok := t.Underlying().(*types.Signature)
	return ok && carriesWords(s.Params())
}
