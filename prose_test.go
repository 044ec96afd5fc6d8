package vlmem

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// prose are the fields and variables that hold sentences for people: warnings, reasons, notes, errors. What a program
// must tell apart has a code.
var prose = regexp.MustCompile(`^(?i:text|why|reasons?|warnings?|notes?|message|advice|refused|complaint)$`)

// outsiders are the files that search a Name whose words are another program's, and whose they are.
var outsiders = map[string]string{
	"internal/trace/snapshot/site.go":   "functions in a PyTorch snapshot's stacks",
	"internal/trace/container.go":       "members of an archive",
	"internal/engine/torch_weights.go":  "tensors of a checkpoint",
	"internal/engine/weights/model.go":  "tensors of a GGUF file",
	"internal/engine/vllm.go":           "cards, as vLLM tells them apart itself",
	"internal/profile/bounds.go":        "kinds of core, of a closed list in YAML",
	"internal/speed/machine.go":         "kinds of core, of a closed list in YAML",
	"internal/placement/machine.go":     "the parts of a model, named by this room alone",
	"internal/settings/words.go":        "flags",
	"internal/probe/cards.go":           "AMD's cards by model, where the kernel tells no more",
	"internal/engine/engine.go":         "items, of a closed list of constants",
	"internal/engine/llamacpp_cpu.go":   "types of GGUF",
	"internal/engine/llamacpp_place.go": "tensors of a GGUF file, by pattern as llama.cpp does",
}

// searches are the functions that look for words in their first argument.
var searches = []string{"Contains", "ContainsAny", "HasPrefix", "HasSuffix", "Index", "LastIndex", "EqualFold", "Cut",
	"CutPrefix", "CutSuffix", "Count"}

func TestNothingBranchesOnTheWordsOfAMessage(t *testing.T) {
	for _, file := range goFiles(t) {
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if outsiders[file] != "" && len(proseSearches(parsed, false)) == 0 {
			t.Errorf("%s: searches no name, and needs no line in outsiders", file)
		}
		for _, found := range proseSearches(parsed, outsiders[file] != "") {
			at := fset.Position(found)
			t.Errorf("%s:%d: decides by the words of a message or a name: give it a code, a kind or a field",
				path.Clean(file), at.Line)
		}
	}
}

// TestProseSearchesAreFound holds the finder to what it must see and must leave alone.
func TestProseSearchesAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`strings.Contains(w.Text, "card")`:                     1,
		`strings.HasPrefix(strings.ToLower(warning), "slow")`:  1,
		`strings.Index(err.Error(), "no space")`:               1,
		`strings.Contains(" "+r.Why+" ", word)`:                1,
		`pattern.MatchString(r.Why)`:                           1,
		`strings.HasPrefix(budget.Name, "device")`:             1,
		`budget.Name == "the host's memory"`:                   1,
		`w.Text != "slow"`:                                     1,
		`w.Text == ""`:                                         0,
		`w.Code == "slow"`:                                     0,
		`strings.Contains(path, "/lib/")`:                      0,
		`strings.Contains(lines.Text(), "model name")`:         0,
		`strings.TrimSpace(w.Text) == ""`:                      0,
		`strings.Join(strings.Fields(err.Error()), " ") == ""`: 0,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nvar _ = "+text, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(proseSearches(file, false)); got != want {
			t.Errorf("%s: %d found, want %d", text, got, want)
		}
	}
}

// proseSearches finds the places of a file that decide by the words of a message, or of a name unless names are
// another program's.
func proseSearches(file *ast.File, foreignNames bool) (found []token.Pos) {
	sentence := func(e ast.Expr) bool { return speaks(e, foreignNames) }
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || len(n.Args) == 0 || !sentence(n.Args[0]) {
				break
			}
			pkg, _ := f.X.(*ast.Ident)
			if pkg != nil && pkg.Name == "strings" && slices.Contains(searches, f.Sel.Name) || f.Sel.Name == "MatchString" {
				found = append(found, n.Pos())
			}
		case *ast.BinaryExpr:
			compared := n.Op == token.EQL || n.Op == token.NEQ
			if compared && (sentence(n.X) && words(n.Y) || sentence(n.Y) && words(n.X)) {
				found = append(found, n.Pos())
			}
		case *ast.SwitchStmt:
			if n.Tag != nil && sentence(n.Tag) {
				found = append(found, n.Pos())
			}
		}
		return true
	})
	return found
}

// speaks reports whether an expression is a sentence, or is made of one.
func speaks(e ast.Expr, foreignNames bool) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return prose.MatchString(e.Name) && e.Name != "text" // what a parser reads is called text
	case *ast.SelectorExpr:
		return prose.MatchString(e.Sel.Name) || e.Sel.Name == "Name" && !foreignNames
	case *ast.BinaryExpr:
		return speaks(e.X, foreignNames) || speaks(e.Y, foreignNames)
	case *ast.CallExpr:
		f, ok := e.Fun.(*ast.SelectorExpr)
		if ok && f.Sel.Name == "Error" {
			return true
		}
		return ok && len(e.Args) > 0 && (f.Sel.Name == "ToLower" || f.Sel.Name == "TrimSpace") &&
			speaks(e.Args[0], foreignNames)
	}
	return false
}

// words reports whether an expression is a literal that says something.
func words(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return false
	}
	s, err := strconv.Unquote(lit.Value)
	return err == nil && s != ""
}
