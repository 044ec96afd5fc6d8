package vlmem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// width is the most columns of a line, a tab being one.
const width = 120

// TestLinesAreShort holds code, that of tests and tools too, outside tables of data: the elements of literals, and
// fields with their tags, stand on one line however long.
func TestLinesAreShort(t *testing.T) {
	for _, file := range allGoFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		data := dataLines(fset, parsed)
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			if columns := utf8.RuneCountInString(strings.TrimRight(line, "\n")); columns > width && !data[n] {
				t.Errorf("%s:%d: %d columns, want at most %d", file, n, columns, width)
			}
		}
	}
}

// dataLines are the lines of tables: elements of arrays and maps, and fields of structs with tags.
func dataLines(fset *token.FileSet, file *ast.File) map[int]bool {
	lines := map[int]bool{}
	mark := func(n ast.Node) {
		for line := fset.Position(n.Pos()).Line; line <= fset.Position(n.End()).Line; line++ {
			lines[line] = true
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			switch n.Type.(type) {
			case *ast.ArrayType, *ast.MapType:
				for _, e := range n.Elts {
					mark(e)
				}
			}
		case *ast.Field:
			if n.Tag != nil {
				mark(n)
			}
		case *ast.BasicLit:
			if strings.HasPrefix(n.Value, "`") {
				mark(n)
			}
		}
		return true
	})
	return lines
}
