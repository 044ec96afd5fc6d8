package vlmem

import (
	"flag"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the arrows of .golangci.yml anew")

const (
	linter     = ".golangci.yml"
	rulesBegin = "        # The arrows of deps_test.go; written by: go test -run TestLinterHoldsTheArrows . -update\n"
	rulesEnd   = "        # The end of the arrows.\n"
)

// TestLinterHoldsTheArrows: depguard's rules are those of arrows, so that an editor shows what this folder refuses.
func TestLinterHoldsTheArrows(t *testing.T) {
	text, err := os.ReadFile(linter)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), rulesBegin)
	_, after, closed := strings.Cut(rest, rulesEnd)
	if !ok || !closed {
		t.Fatalf("%s: no arrows between %q and %q", linter, rulesBegin, rulesEnd)
	}
	want := before + rulesBegin + rules(goFolders(t)) + rulesEnd + after
	if *update {
		if err := os.WriteFile(linter, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s: other arrows than deps_test.go has; run: go test -run TestLinterHoldsTheArrows . -update", linter)
	}
}

// TestLinterDecidesAsTheArrows reads the rules back and asks them about each room and each folder that it may import or
// not, as depguard's lax mode decides: what lies in the module is refused unless it is named to the end.
func TestLinterDecidesAsTheArrows(t *testing.T) {
	text, err := os.ReadFile(linter)
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]struct{ Allow []string }
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	for room, list := range arrows {
		rule, ok := config.Linters.Settings.Depguard.Rules[room]
		if !ok {
			t.Errorf("%s: no rule for %s", linter, room)
		}
		for _, target := range goFolders(t) {
			want := within(target, room)
			for _, arrow := range strings.Fields(list) {
				want = want || leads(arrow, target)
			}
			if got := slices.Contains(rule.Allow, module+"/"+target+"$"); got != want {
				t.Errorf("%s: may %s import %s: %t, want %t", linter, room, target, got, want)
			}
		}
	}
}

// TestLintersAreRun: what .golangci.yml enables, .ci/run runs, by that program or another; the workflow runs .ci/run;
// and CONTRIBUTING.md names each.
func TestLintersAreRun(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var config struct{ Linters struct{ Enable []string } }
	if err := yaml.Unmarshal([]byte(read(linter)), &config); err != nil {
		t.Fatal(err)
	}
	run := read(".ci/run")
	_, only, _ := strings.Cut(run, "--enable-only ")
	only, _, _ = strings.Cut(only, " ")
	by := map[string]string{"govet": "go vet ./...", "staticcheck": "go tool staticcheck ./...",
		"unused": "go tool staticcheck ./..."} // staticcheck's U1000
	for _, name := range strings.Split(only, ",") {
		by[name] = "golangci-lint@v"
	}
	for _, name := range config.Linters.Enable {
		if command := by[name]; command == "" || !strings.Contains(run, command) {
			t.Errorf(".ci/run does not run %s, which %s enables", name, linter)
		}
		delete(by, name)
	}
	for name := range by {
		t.Errorf(".ci/run runs %s, which %s does not enable", name, linter)
	}
	workflow, contributing := read(".github/workflows/ci.yml"), read("CONTRIBUTING.md")
	if !strings.Contains(workflow, "bash .ci/run") || !strings.Contains(contributing, "bash .ci/run") {
		t.Error("the workflow and CONTRIBUTING.md both run .ci/run")
	}
	for step, in := range map[string]string{"gofmt": run, "go vet": run, "staticcheck": run, "golangci-lint": run,
		"deadcode": run, "benchmark": run, "race": run, "govulncheck": workflow, "gosec": workflow} {
		if !strings.Contains(in, step) || !strings.Contains(contributing, step) {
			t.Errorf("%s is run, and named in CONTRIBUTING.md: one of the two is not so", step)
		}
	}
}

// rules writes one rule of depguard for each room. A folder is named to its end ($): of a list depguard 2.2 asks only
// the last name that does not follow the import in the alphabet, so a room and one inside it cannot both be prefixes.
func rules(folders []string) string {
	var text strings.Builder
	for _, room := range slices.Sorted(maps.Keys(arrows)) {
		files := []string{"'**/" + room + "/**'"}
		for _, inner := range slices.Sorted(maps.Keys(arrows)) {
			if inner != room && within(inner, room) {
				files = append(files, "'!**/"+inner+"/**'")
			}
		}
		text.WriteString("        " + room + ":\n          list-mode: lax\n")
		text.WriteString("          files: [" + strings.Join(append(files, "'!$test'"), ", ") + "]\n")
		text.WriteString("          deny: [{pkg: " + module + "/, desc: no arrow of deps_test.go leads there}]\n")
		text.WriteString("          allow:\n")
		for _, folder := range folders {
			_, allowed, _ := roomOf(room)
			if within(folder, room) || slices.ContainsFunc(allowed, func(a string) bool { return leads(a, folder) }) {
				text.WriteString("            - " + module + "/" + folder + "$\n")
			}
		}
	}
	return text.String()
}

// goFolders lists the folders that hold files of the program, in the order of the alphabet.
func goFolders(t *testing.T) (folders []string) {
	for _, file := range goFiles(t) {
		folders = append(folders, path.Dir(file))
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}
