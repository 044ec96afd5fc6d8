package vlmem

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// twinNodes is how large a run of statements is, in nodes of its syntax, from which on the same logic may not stand
// twice: five lines or so.
const twinNodes = 32

// TestNoLogicStandsTwice looks for runs of statements that are alike but for the names of their variables and for one
// statement that only one of them has, anywhere in it. Called functions, fields, types and constants count, so that
// walks over different data are not taken for one another.
func TestNoLogicStandsTwice(t *testing.T) {
	var runs []run
	for _, file := range allGoFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, runsOf(fset, file, parsed)...)
	}
	for _, pair := range twins(runs) {
		a, b := pair[0], pair[1]
		t.Errorf("%s:%d and %s:%d: the same logic stands in %s and %s", a.file, a.line, b.file, b.line, a.function,
			b.function)
	}
}

// TestOnePlaceChoosesFrees: which free counts, where recordings complete theirs later, is known to the iterator in
// internal/trace; a loop elsewhere that names one of the two has chosen for itself.
func TestOnePlaceChoosesFrees(t *testing.T) {
	const player = "internal/rivals/pytorch/record.go" // plays every event of a program, uses and waits too
	for _, file := range goFiles(t) {
		if within(file, "internal/trace") || within(file, "tools") || file == player {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "OpFree" || s.Sel.Name == "OpFreeCompleted") {
				t.Errorf("%s names trace.%s: range over Trace.Operations instead", file, s.Sel.Name)
			}
			return true
		})
	}
}

// twins are pairs of runs that are alike, of which one may be short of a statement.
func twins(runs []run) (pairs [][2]run) {
	whole := map[string]run{}
	for _, r := range runs {
		if other, again := whole[r.text]; r.whole && !again {
			whole[r.text] = r
		} else if r.whole && other.apart(r) {
			pairs = append(pairs, [2]run{other, r})
		}
	}
	for _, r := range runs {
		if other, again := whole[r.text]; !r.whole && again && other.apart(r) {
			pairs = append(pairs, [2]run{other, r})
		}
	}
	return pairs
}

// TestTwinsAreFound holds the finder to what it must see and must leave alone.
func TestTwinsAreFound(t *testing.T) {
	const first = "package p\nfunc f(a []int) (n int) { for i, x := range a { if x > 3 { n += x * i; g(n, 4) }; n -= " +
		"h(a[i], x) }; " +
		"n *= k(n, 5); return n + 1 }\n"
	for text, want := range map[string]bool{
		strings.NewReplacer("(n int)", "(s int)", " n ", " s ", "(n,", "(s,").Replace(first): true,
		strings.Replace(first, "n *= k", "q(a); n *= k", 1):                                  true,
		strings.Replace(first, "g(n, 4)", "q(i); g(n, 4)", 1):                                true,
		strings.Replace(first, "n -= h", "if q(i) { return 0 }; n -= h", 1):                  true,
		"package p\nvar f = func" + strings.TrimPrefix(first, "package p\nfunc f"):           true,
		strings.Replace(first, "> 3", "> 4", 1):                                              false,
		strings.Replace(first, "g(n, 4)", "q(n, 4)", 1):                                      false,
		strings.Replace(first, "h(a[i], x)", "h(x, x)", 1):                                   false,
	} {
		var runs []run
		for _, source := range []string{first, text} {
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, "", source, 0)
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, runsOf(fset, source, parsed)...)
		}
		if got := len(twins(runs)) > 0; got != want {
			t.Errorf("alike is %v, want %v: %s", got, want, text)
		}
	}
}

// run is a run of statements, as text in which variables have numbers.
type run struct {
	file, function, text string
	line, end            int
	whole                bool // no statement is left out of the text
}

// apart reports whether two runs do not overlap.
func (r run) apart(o run) bool { return r.file != o.file || o.line > r.end || r.line > o.end }

// runsOf are, from each statement of a file, the shortest run of twinNodes, whole and with each of its statements left
// out in turn.
func runsOf(fset *token.FileSet, file string, parsed *ast.File) (list []run) {
	for _, decl := range parsed.Decls {
		name := "a variable of the package"
		if f, ok := decl.(*ast.FuncDecl); ok {
			name = f.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			var statements []ast.Stmt
			switch n := n.(type) {
			case *ast.BlockStmt:
				statements = n.List
			case *ast.CaseClause:
				statements = n.Body
			case *ast.CommClause:
				statements = n.Body
			}
			for i := range statements {
				r := run{file: file, function: parsed.Name.Name + "." + name, line: fset.Position(statements[i].Pos()).Line}
				list = append(list, r.variants(fset, statements[i:])...)
			}
			return true
		})
	}
	return list
}

// variants are the run from the first statement on, whole and without one.
func (r run) variants(fset *token.FileSet, statements []ast.Stmt) (list []run) {
	var within []ast.Stmt
	write := func(without ast.Stmt) bool {
		w := writer{numbers: map[string]int{}, without: without}
		for _, s := range statements {
			if w.node(s); w.nodes >= twinNodes {
				r.text, r.end, r.whole = w.b.String(), fset.Position(s.End()).Line, without == nil
				list = append(list, r)
				within = w.statements
				return true
			}
		}
		within = w.statements
		return false
	}
	write(nil)
	for _, s := range within {
		if s != statements[0] {
			write(s)
		}
	}
	return list
}

// writer writes syntax as text: kinds of nodes, operators, constants and names, variables as numbers in the order in
// which they come.
type writer struct {
	b       strings.Builder
	numbers map[string]int
	nodes   int
	without ast.Stmt // left out

	statements []ast.Stmt
}

func (w *writer) node(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if n == nil {
			w.b.WriteByte(')')
			return true
		}
		if s, ok := n.(ast.Stmt); ok {
			if s == w.without {
				return false
			}
			if _, block := s.(*ast.BlockStmt); !block {
				w.statements = append(w.statements, s)
			}
		}
		w.nodes++
		fmt.Fprintf(&w.b, "(%T", n)
		switch n := n.(type) {
		case *ast.Ident:
			w.variable(n.Name)
		case *ast.SelectorExpr:
			w.node(n.X)
			w.b.WriteString("." + n.Sel.Name + ")")
			return false
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok {
				w.b.WriteString(" " + f.Name)
				for _, a := range n.Args {
					w.node(a)
				}
				w.b.WriteByte(')')
				return false
			}
		case *ast.KeyValueExpr:
			if f, ok := n.Key.(*ast.Ident); ok {
				w.b.WriteString(" " + f.Name)
				w.node(n.Value)
				w.b.WriteByte(')')
				return false
			}
		case *ast.BasicLit:
			w.b.WriteString(" " + n.Value)
		case *ast.BinaryExpr:
			w.b.WriteString(" " + n.Op.String())
		case *ast.UnaryExpr:
			w.b.WriteString(" " + n.Op.String())
		case *ast.AssignStmt:
			w.b.WriteString(" " + n.Tok.String())
		case *ast.IncDecStmt:
			w.b.WriteString(" " + n.Tok.String())
		case *ast.BranchStmt:
			w.b.WriteString(" " + n.Tok.String())
		}
		return true
	})
}

func (w *writer) variable(name string) {
	if token.IsExported(name) {
		w.b.WriteString(" " + name)
		return
	}
	if _, ok := w.numbers[name]; !ok {
		w.numbers[name] = len(w.numbers)
	}
	fmt.Fprintf(&w.b, " %d", w.numbers[name])
}
