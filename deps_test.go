// Package vlmem holds tests of the project as a whole.
package vlmem

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vlmem/vlmem"

// arrows lists, for each room, the rooms it may import; a room speaks for the folders below it that have no line of
// their own. It is a statement of policy: add an arrow only with a reason, and draw it in docs/design.md too.
var arrows = map[string]string{
	"internal/units":           "",
	"internal/memory":          "",
	"internal/file":            "internal/units",
	"internal/evidence":        "internal/units",
	"internal/cuda":            "",
	"internal/resident":        "",
	"internal/profile":         "internal/units internal/evidence",
	"internal/speed":           "internal/profile",
	"profiles":                 "internal/profile",
	"internal/trace":           "internal/units internal/file",
	"internal/probe":           "internal/evidence internal/profile internal/units internal/cuda internal/pressure",
	"internal/account":         "internal/trace internal/rivals/pytorch internal/units",
	"internal/workload":        "internal/profile internal/trace internal/units",
	"internal/alloc/space":     "internal/units internal/cuda",
	"internal/alloc":           "internal/units internal/memory internal/plan internal/alloc/space internal/alloc/alloctest",
	"internal/alloc/alloctest": "internal/alloc internal/alloc/space",
	"internal/alloc/stream":    "internal/alloc internal/alloc/space internal/cuda internal/profile internal/units",
	"internal/pressure":        "internal/units",
	"internal/placement":       "internal/memory internal/profile internal/units internal/alloc/stream",
	"internal/rivals":          "internal/alloc internal/trace internal/units internal/rivals",
	"internal/plan":            "internal/units",
	"internal/replay":          "internal/trace internal/alloc internal/rivals internal/plan",
	"internal/baseline":        "internal/replay",
	"internal/checkpoint":      "internal/profile internal/engine/weights internal/units internal/file",
	"internal/tiling":          "internal/evidence internal/profile internal/units internal/cuda internal/file",
	"internal/engine":          "internal/profile internal/units internal/trace internal/workload internal/evidence",
	"internal/advise":          "internal/observation internal/speed internal/memory internal/profile internal/placement internal/replay internal/tiling internal/alloc internal/units internal/trace internal/engine internal/rivals/pytorch internal/evidence",
	"internal/observation":     "internal/engine internal/units internal/evidence",
	"internal/child":           "internal/observation internal/units",
	"internal/report":          "internal/account internal/observation internal/speed internal/evidence internal/baseline internal/rivals/pytorch internal/units internal/profile internal/pressure internal/replay internal/advise internal/tiling internal/engine internal/plan internal/trace internal/probe internal/alloc internal/pressure",
	"optimizer":                "internal/memory internal/alloc internal/plan internal/cuda internal/pressure internal/profile internal/probe internal/advise",
	"internal/trial":           "internal/advise internal/alloc internal/memory internal/replay optimizer",
	"cmd/libvlmem":             "optimizer",
	"cmd/vlmem":                "internal profiles optimizer",
}

func TestImportsFollowTheArrows(t *testing.T) {
	for _, file := range goFiles(t) {
		room, allowed, ok := roomOf(path.Dir(file))
		if !ok {
			t.Errorf("%s: no room in arrows holds this folder", file)
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			target, ours := strings.CutPrefix(imported, module+"/")
			if ours && !within(target, room) && !slices.ContainsFunc(allowed, func(a string) bool { return within(target, a) }) {
				t.Errorf("%s: %s may not import %s", file, room, target)
			}
		}
	}
}

// goFiles lists the files that are built into the program; tests may import what they test with.
func goFiles(t *testing.T) []string {
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tools"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			files = append(files, filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("listing files: %d found, %v", len(files), err)
	}
	return files
}

// roomOf finds the innermost room that holds a folder.
func roomOf(folder string) (room string, allowed []string, ok bool) {
	for f := folder; f != "."; f = path.Dir(f) {
		if list, found := arrows[f]; found {
			return f, strings.Fields(list), true
		}
	}
	return "", nil, false
}

func within(folder, room string) bool { return folder == room || strings.HasPrefix(folder, room+"/") }
