package vlmem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// What CONTRIBUTING.md asks of functions, in lines: of half of them, of nine in ten, of all, of those of the commands,
// which are read from top to bottom, and of what makes a command, which is its help and a line for each flag.
const (
	halfLines    = 11
	nineLines    = 30
	mostLines    = 60
	commandLines = 30
	flagsLines   = 40
)

// mostCommands is how much cmd/vlmem may hold without its tests: flags, doors and exits.
const mostCommands = 3600

// TestFunctionsAreShort counts functions and methods, and function literals apart; tests and tools have the same bound.
func TestFunctionsAreShort(t *testing.T) {
	var lengths []int
	for _, file := range allGoFiles(t) {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		test := strings.HasSuffix(file, "_test.go")
		for _, f := range functions(fset, parsed) {
			most := mostLines
			if within(path.Dir(file), "cmd/vlmem") && !test {
				most = commandLines
				if f.makes {
					most = flagsLines
				}
			}
			if f.lines > most {
				t.Errorf("%s:%d: %s has %d lines, want at most %d", file, f.at, f.name, f.lines, most)
			}
			if !test && !f.literal {
				lengths = append(lengths, f.lines)
			}
		}
	}
	slices.Sort(lengths)
	if half, nine := lengths[len(lengths)/2], lengths[len(lengths)*9/10]; half > halfLines || nine > nineLines {
		t.Errorf("half of %d functions have up to %d lines and nine in ten up to %d, want %d and %d", len(lengths), half,
			nine, halfLines, nineLines)
	}
}

// function is a function, method or function literal with its length.
type function struct {
	name      string
	literal   bool
	makes     bool // a command
	at, lines int
}

func functions(fset *token.FileSet, file *ast.File) (list []function) {
	in := "the package"
	ast.Inspect(file, func(n ast.Node) bool {
		f := function{literal: true, name: "a literal in " + in}
		switch n := n.(type) {
		case *ast.FuncDecl:
			f.name, f.literal, in = n.Name.Name, false, n.Name.Name
			f.makes = makesCommand(n)
		case *ast.FuncLit:
		default:
			return true
		}
		f.at = fset.Position(n.Pos()).Line
		f.lines = fset.Position(n.End()).Line - f.at + 1
		list = append(list, f)
		return true
	})
	return list
}

// makesCommand reports whether a function returns a *cobra.Command.
func makesCommand(f *ast.FuncDecl) bool {
	if f.Type.Results == nil || len(f.Type.Results.List) != 1 {
		return false
	}
	star, ok := f.Type.Results.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	s, ok := star.X.(*ast.SelectorExpr)
	return ok && s.Sel.Name == "Command"
}

// TestFunctionsAreCounted holds the count to literals in functions and in variables of the package.
func TestFunctionsAreCounted(t *testing.T) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "", "package p\nvar v = func() {\n}\nfunc f() {\ng(func() {\n\n})\n}\n"+
		"func n() *cobra.Command {}\n", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []function{{"a literal in the package", true, false, 2, 2}, {"f", false, false, 4, 5},
		{"a literal in f", true, false, 5, 3}, {"n", false, true, 9, 1}}
	if got := functions(fset, file); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCommandsAreThin(t *testing.T) {
	lines := 0
	for _, file := range goFiles(t) {
		if !within(path.Dir(file), "cmd/vlmem") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if lines > mostCommands {
		t.Errorf("cmd/vlmem has %d lines, want at most %d: work belongs into a room (docs/design.md)", lines, mostCommands)
	}
}
