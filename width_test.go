package vlmem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// width is the most columns of a line, a tab being one.
const width = 120

// TestLinesAreShort holds code and comments, those of tests and tools too, outside tables of data.
func TestLinesAreShort(t *testing.T) {
	for _, file := range allGoFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range longLines(t, text) {
			t.Errorf("%s:%d: more than %d columns", file, line, width)
		}
	}
}

// TestPagesAreShort holds the sentences of Markdown: no code, no row of a table, nothing generated, and no piece that
// cannot be broken.
func TestPagesAreShort(t *testing.T) {
	generated := []string{"docs/commands.md", "docs/configuration.md"}
	for _, file := range filesNamed(t, ".md") {
		text, err := os.ReadFile(file)
		if err != nil || slices.Contains(generated, file) {
			continue
		}
		fenced, n := false, 0
		for line := range strings.Lines(string(text)) {
			n++
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
			}
			line = strings.TrimRight(line, "\n")
			whole := strings.HasPrefix(line, "|") || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, "<!--") ||
				strings.HasPrefix(line, "  `") || len(strings.Fields(strings.TrimLeft(line, " -"))) < 2
			if !fenced && !whole && utf8.RuneCountInString(line) > width {
				t.Errorf("%s:%d: more than %d columns", file, n, width)
			}
		}
	}
}

// TestLongLinesAreFound holds the finder to what it must see and must leave alone.
func TestLongLinesAreFound(t *testing.T) {
	long := `"` + strings.Repeat("x", width) + `"`
	for text, want := range map[string][]int{
		"var v = []string{\n" + long + ",\n}":                             nil,
		"var v = map[string]row{\n\"a\": {1, " + long + ", -k.B * 2},\n}": nil,
		"var (\n\tv = []*row{\n&row{a: " + long + "},\n}\n)":              nil,
		"var v = `a\n" + long + "\nb`":                                    nil,
		"func f() { _ = `a\n" + long + "\nb` }":                           nil,
		"var v = []string{" + long + "}":                                  {2}, // one line is no table
		"var v = " + long:                                                 {2},
		"var v = row{\n" + long + ",\n}":                                  {3}, // nor is a struct
		"var v = []row{\n{f(" + long + ")},\n}":                           {3}, // work, not data
		"var v = []func(){\nfunc() { _ = " + long + " },\n}":              {3},
		"func f() {\n_ = []string{\n" + long + ",\n}\n}":                  {4},
		"func f() {\n_ = map[string]string{\n\"a\": " + long + ",\n}\n}":  {4},
		"var v = []string{\n\"a\", // " + long + "\n}":                    {3}, // the comment, not the row
		"var v = []string{\n// " + long + "\n\"a\",\n}":                   {3},
		// the language wants one line
		"type t struct {\nA int `json:" + long + "`\n}":                                    nil,
		"type t struct {\nA int `json:" + long[30:] + "` // a comment too many\n}":         {3},
		"type t struct {\nA" + strings.Repeat(" ", 80) + "int `json:" + long[60:] + "`\n}": {3},
		"func f() {\ng(`" + long + "`)\n}":                                                 {3},
		"func f() {\ng(`a` + " + long + ")\n}":                                             {3},
		"var v = `a\nb` + " + long:                                                         {3}, // beyond the raw string
		"// " + long + "\nvar v = 1":                                                       {2},
		"var v = []string{\n\"a\",\n}\n\nfunc f() string {\nreturn " + long + "\n}":        {7},
	} {
		if got := longLines(t, []byte("package p\n"+text+"\n")); !slices.Equal(got, want) {
			t.Errorf("lines %v, want %v: %.80q", got, want, text)
		}
	}
}

// longLines are the lines of a file that are too long and hold no data.
func longLines(t *testing.T, text []byte) (long []int) {
	t.Helper()
	fset := token.NewFileSet()
	parsed, err := parser.ParseFile(fset, "", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	data := dataLines(fset, parsed)
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > width && !data[n] {
			long = append(long, n)
		}
	}
	return long
}

// dataLines are the lines of a file that hold nothing but data: rows of tables, which are literals of arrays and maps
// in variables of the package, and what lies within a string of many lines; or a field with a tag that no line holds.
// A comment beside them is none.
func dataLines(fset *token.FileSet, file *ast.File) map[int]bool {
	lines := map[int]bool{}
	mark := func(from, to token.Pos, is bool) {
		for line := fset.Position(from).Line; line <= fset.Position(to).Line; line++ {
			lines[line] = is
		}
	}
	for _, decl := range file.Decls {
		if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.VAR {
			for _, row := range rows(fset, d) {
				mark(row.Pos(), row.End(), true)
			}
		}
	}
	for _, group := range file.Comments {
		mark(group.Pos(), group.End(), false)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			first, last := fset.Position(n.Pos()).Line, fset.Position(n.End()).Line
			for line := first + 1; line < last; line++ {
				lines[line] = true
			}
		case *ast.Field:
			if n.Tag != nil && !lines[fset.Position(n.Pos()).Line] && unbreakable(n) {
				mark(n.Pos(), n.End(), true)
			}
		}
		return true
	})
	return lines
}

// unbreakable reports whether a field and its tag, which the language wants on one line, are too long however they
// stand.
func unbreakable(f *ast.Field) bool {
	least := len("\t ") + int(f.Type.End()-f.Type.Pos()) + len(f.Tag.Value)
	if n := len(f.Names); n > 0 {
		least += int(f.Names[n-1].End()-f.Names[0].Pos()) + len(" ")
	}
	return least > width
}

// rows are the elements of a declaration's tables that are data, each on lines of its own.
func rows(fset *token.FileSet, d *ast.GenDecl) (list []ast.Expr) {
	for _, spec := range d.Specs {
		for _, value := range spec.(*ast.ValueSpec).Values {
			table, ok := value.(*ast.CompositeLit)
			if !ok {
				continue
			}
			switch table.Type.(type) {
			case *ast.ArrayType, *ast.MapType:
			default:
				continue
			}
			for _, e := range table.Elts {
				if isData(e) && fset.Position(e.Pos()).Line > fset.Position(table.Lbrace).Line {
					list = append(list, e)
				}
			}
		}
	}
	return list
}

// isData reports whether an expression computes nothing that is more than a sum or product of constants.
func isData(e ast.Expr) bool {
	data := true
	ast.Inspect(e, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.CallExpr, *ast.FuncLit:
			data = false
		}
		return data
	})
	return data
}
