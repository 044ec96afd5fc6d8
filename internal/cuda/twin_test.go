package cuda

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTwins holds the two builds to one API: every exported function and method of the files built with cgo has its
// like in nocgo.go, and the other way round.
func TestTwins(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	api := map[bool][]string{} // built with cgo → functions
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		with, without := strings.HasPrefix(string(source), "//go:build cgo"),
			strings.HasPrefix(string(source), "//go:build !cgo")
		if !with && !without {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), source, 0)
		if err != nil {
			t.Fatal(err)
		}
		api[with] = append(api[with], exported(file)...)
	}
	slices.Sort(api[true])
	slices.Sort(api[false])
	if !slices.Equal(api[true], api[false]) {
		t.Errorf("with cgo:    %v\nwithout cgo: %v", api[true], api[false])
	}
}

func exported(file *ast.File) []string {
	var names []string
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || !f.Name.IsExported() {
			continue
		}
		name := f.Name.Name
		if f.Recv != nil {
			name = f.Recv.List[0].Type.(*ast.StarExpr).X.(*ast.Ident).Name + "." + name
		}
		names = append(names, name)
	}
	return names
}
