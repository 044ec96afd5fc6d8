package vlmem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What CONTRIBUTING.md asks of functions, in lines: of half of them, of nine in ten, of all, and of those of the
// commands.
const (
	halfLines    = 11
	nineLines    = 30
	mostLines    = 60
	commandLines = 40
)

// mostCommands is how much cmd/vlmem may hold without its tests: flags, doors and exits.
const mostCommands = 3600

func TestFunctionsAreShort(t *testing.T) {
	var lengths []int
	tools, err := filepath.Glob("tools/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(goFiles(t), tools...) {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		most := mostLines
		if within(path.Dir(file), "cmd/vlmem") {
			most = commandLines
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			n := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1
			if lengths = append(lengths, n); n > most {
				t.Errorf("%s: %s has %d lines, want at most %d", file, f.Name.Name, n, most)
			}
		}
	}
	slices.Sort(lengths)
	if half, nine := lengths[len(lengths)/2], lengths[len(lengths)*9/10]; half > halfLines || nine > nineLines {
		t.Errorf("half of %d functions have up to %d lines and nine in ten up to %d, want %d and %d", len(lengths), half,
			nine,
			halfLines, nineLines)
	}
}

func TestCommandsAreThin(t *testing.T) {
	lines := 0
	for _, file := range goFiles(t) {
		if path.Dir(file) != "cmd/vlmem" {
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
