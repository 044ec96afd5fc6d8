// Package vlmem holds tests of the project as a whole.
package vlmem

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/vlmem/vlmem"

// arrows lists, for each room, the rooms it may import; a room speaks for the folders below it that have no line of
// their own, as an importer and as what is imported. It is a statement of policy: add an arrow only with a reason, and
// draw it in docs/design.md too. An arrow that no file uses is taken out.
var arrows = map[string]string{
	"internal/units":           "",
	"internal/memory":          "",
	"internal/verdict":         "",
	"internal/file":            "internal/units",
	"internal/evidence":        "internal/units",
	"internal/cuda":            "",
	"internal/vulkan":          "",
	"internal/resident":        "",
	"internal/profile":         "internal/evidence internal/file internal/units",
	"internal/speed":           "internal/file internal/profile",
	"profiles":                 "internal/profile",
	"internal/trace":           "internal/file internal/memory internal/plan",
	"internal/probe":           "internal/cuda internal/evidence internal/pressure internal/profile internal/units internal/verdict internal/vulkan",
	"internal/account":         "internal/rivals/pytorch internal/trace internal/units",
	"internal/workload":        "internal/profile internal/trace",
	"internal/alloc/space":     "internal/cuda",
	"internal/alloc":           "internal/memory internal/plan internal/units",
	"internal/alloc/alloctest": "internal/alloc",
	"internal/alloc/stream":    "internal/alloc internal/alloc/space internal/cuda",
	"internal/pressure":        "internal/units",
	"internal/placement":       "internal/alloc/stream internal/memory internal/profile internal/units",
	"internal/rivals":          "internal/alloc internal/trace internal/verdict",
	"internal/plan":            "",
	"internal/replay":          "internal/alloc internal/rivals internal/trace",
	"internal/baseline":        "internal/file internal/replay",
	"internal/shard":           "internal/advise internal/file internal/profile internal/replay internal/workload",
	"internal/gate":            "internal/account internal/advise internal/engine internal/estimate internal/file internal/units internal/verdict",
	"internal/fleet":           "internal/advise internal/engine internal/evidence internal/profile internal/speed internal/units internal/workload",
	"internal/checkpoint":      "internal/engine/weights internal/file internal/profile internal/units",
	"internal/catalog":         "internal/checkpoint internal/engine/weights internal/file internal/profile profiles",
	"internal/tiling":          "internal/cuda internal/evidence internal/file internal/profile internal/units internal/verdict",
	"internal/engine":          "internal/evidence internal/profile internal/rivals/glibc internal/trace internal/units internal/workload",
	"internal/advise":          "internal/account internal/alloc internal/engine internal/evidence internal/file internal/memory internal/observation internal/placement internal/profile internal/replay internal/rivals/pytorch internal/speed internal/tiling internal/trace internal/units internal/verdict internal/workload",
	"internal/observation":     "internal/engine internal/evidence internal/file internal/profile internal/units",
	"internal/child":           "internal/cuda internal/file internal/observation internal/units internal/verdict",
	"internal/report":          "internal/account internal/advise internal/alloc internal/baseline internal/bench internal/engine internal/evidence internal/fleet internal/gate internal/observation internal/plan internal/pressure internal/profile internal/replay internal/rivals/pytorch internal/speed internal/terminal internal/tiling internal/trace internal/units internal/verdict",
	"optimizer":                "internal/advise internal/alloc internal/alloc/space internal/alloc/stream internal/cuda internal/memory internal/plan internal/pressure internal/probe internal/profile",
	"internal/trial":           "internal/advise internal/alloc internal/memory internal/replay optimizer",
	"cmd/libvlmem":             "optimizer",
	"cmd/vlmem":                "internal profiles",
	"internal/estimate":        "internal/advise internal/catalog internal/checkpoint internal/engine internal/evidence internal/file internal/profile internal/settings internal/speed internal/units internal/verdict internal/workload profiles",
	"internal/bench":           "internal/advise internal/alloc internal/alloc/stream internal/baseline internal/catalog internal/cuda internal/outlet internal/placement internal/plan internal/probe internal/profile internal/release internal/replay internal/replay/touched internal/rivals internal/shard internal/trace internal/units internal/verdict internal/workload",
	"internal/replay/touched":  "internal/alloc internal/alloc/space internal/replay internal/resident internal/rivals internal/units",
	"internal/watch":           "internal/cuda internal/pressure internal/report internal/units internal/verdict",
	"internal/verify":          "internal/advise internal/catalog internal/engine internal/estimate internal/evidence internal/file internal/probe internal/profile internal/trial internal/verdict internal/workload optimizer",
	"internal/settings":        "internal/file internal/units",
	"internal/outlet":          "internal/file internal/terminal",
	"internal/terminal":        "",
	"internal/predict":         "internal/advise internal/child internal/engine internal/estimate internal/profile internal/verify",
	"internal/release":         "",
	"internal/interrupt":       "",
}

func TestImportsFollowTheArrows(t *testing.T) {
	used := map[string]bool{} // "room arrow"
	for _, file := range goFiles(t) {
		room, allowed, ok := roomOf(path.Dir(file))
		if !ok {
			t.Errorf("%s: no room in arrows holds this folder", file)
			continue
		}
		used[room] = true
		for _, target := range imports(t, file) {
			at := slices.IndexFunc(allowed, func(a string) bool { return leads(a, target) })
			switch {
			case within(target, room):
			case at < 0:
				t.Errorf("%s: %s may not import %s", file, room, target)
			default:
				used[room+" "+allowed[at]] = true
			}
		}
	}
	for room, list := range arrows {
		if !used[room] {
			t.Errorf("%s: a room in arrows without a file", room)
		}
		for _, arrow := range strings.Fields(list) {
			if !used[room+" "+arrow] {
				t.Errorf("%s: no file uses its arrow to %s: take it out of arrows and of docs/design.md", room, arrow)
			}
		}
	}
}

// TestDesignDrawsTheArrows: the table of rooms in docs/design.md has a row for each room of arrows, with these imports.
func TestDesignDrawsTheArrows(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docs", "design.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| folder | its one noun | imports |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	drawn := map[string]string{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(strings.Trim(line, "|\n"), "|"); len(cells) == 3 {
			drawn[strings.TrimSpace(cells[0])] = strings.TrimSpace(cells[2])
		}
	}
	for room, list := range arrows {
		want := strings.ReplaceAll(strings.Join(strings.Fields(list), ", "), "internal/", "")
		if want == "" {
			want = "–"
		}
		if got, ok := drawn[room]; !ok || got != want {
			t.Errorf("docs/design.md: the row of %s draws %q, want: | %s | … | %s |", room, got, room, want)
		}
		delete(drawn, room)
	}
	for room := range drawn {
		t.Errorf("docs/design.md: %s has a row and is no room of arrows", room)
	}
}

// imports lists the project's own packages that a file imports, as folders.
func imports(t *testing.T, file string) (folders []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if target, ours := strings.CutPrefix(imported, module+"/"); ours && err == nil {
			folders = append(folders, target)
		}
	}
	return folders
}

// goFiles lists the files that are built into the program; tests may import what they test with.
func goFiles(t *testing.T) []string {
	return slices.DeleteFunc(allGoFiles(t), func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || within(name, "tools")
	})
}

// allGoFiles lists every file of the project, tests and tools among them.
func allGoFiles(t *testing.T) []string { return filesNamed(t, ".go") }

// filesNamed lists the files that end so, outside testdata and hidden folders.
func filesNamed(t *testing.T, ending string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ending):
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

// leads reports whether an arrow leads to a folder: the folder lies within it, and within no other room inside it.
func leads(arrow, target string) bool {
	room, _, _ := roomOf(target)
	return within(target, arrow) && (within(arrow, room) || arrow == "internal")
}

func within(folder, room string) bool { return folder == room || strings.HasPrefix(folder, room+"/") }
