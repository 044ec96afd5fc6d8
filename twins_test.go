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

// TestNoLogicStandsTwice looks for runs of statements that are alike but for the names of their variables. Called
// functions, fields, types and constants count, so that walks over different data are not taken for one another.
func TestNoLogicStandsTwice(t *testing.T) {
	seen := map[string]run{}
	for _, file := range goFiles(t) {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runsOf(fset, file, parsed) {
			if other, again := seen[r.text]; !again {
				seen[r.text] = r
			} else if other.file != r.file || r.line > other.end {
				t.Errorf("%s:%d and %s:%d: the same logic stands in %s and %s", other.file, other.line, r.file, r.line,
					other.function, r.function)
			}
		}
	}
}

// TestTwinsAreFound holds the finder to what it must see and must leave alone.
func TestTwinsAreFound(t *testing.T) {
	const first = "package p\nfunc f(a []int) (n int) { for i, x := range a { if x > 3 { n += x * i; g(n, 4) }; n -= " +
		"h(a[i], x) }; " +
		"n *= k(n, 5); return n + 1 }\n"
	for text, want := range map[string]bool{
		strings.NewReplacer("(n int)", "(s int)", " n ", " s ", "(n,", "(s,").Replace(first): true,
		strings.Replace(first, "> 3", "> 4", 1):                                              false,
		strings.Replace(first, "g(n, 4)", "q(n, 4)", 1):                                      false,
		strings.Replace(first, "h(a[i], x)", "h(x, x)", 1):                                   false,
	} {
		var texts [2]string
		for i, source := range []string{first, text} {
			fset := token.NewFileSet()
			parsed, err := parser.ParseFile(fset, "", source, 0)
			if err != nil {
				t.Fatal(err)
			}
			if list := runsOf(fset, "", parsed); len(list) > 0 {
				texts[i] = list[0].text
			}
		}
		if got := texts[0] == texts[1]; texts[0] == "" || got != want {
			t.Errorf("alike is %v, want %v: %s", got, want, text)
		}
	}
}

// run is a run of statements, as text in which variables have numbers.
type run struct {
	file, function, text string
	line, end            int
}

// runsOf are, from each statement of a file, the shortest run of twinNodes.
func runsOf(fset *token.FileSet, file string, parsed *ast.File) (list []run) {
	for _, decl := range parsed.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Body == nil {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
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
				w := writer{numbers: map[string]int{}}
				for _, s := range statements[i:] {
					if w.node(s); w.nodes >= twinNodes {
						list = append(list, run{file, parsed.Name.Name + "." + f.Name.Name, w.b.String(),
							fset.Position(statements[i].Pos()).Line, fset.Position(s.End()).Line})
						break
					}
				}
			}
			return true
		})
	}
	return list
}

// writer writes syntax as text: kinds of nodes, operators, constants and names, variables as numbers in the order in
// which they come.
type writer struct {
	b       strings.Builder
	numbers map[string]int
	nodes   int
}

func (w *writer) node(n ast.Node) {
	ast.Inspect(n, func(n ast.Node) bool {
		if n == nil {
			w.b.WriteByte(')')
			return true
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
