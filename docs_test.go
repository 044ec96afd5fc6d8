package vlmem

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"
)

// build makes vlmem once for the tests that run what the documentation says, and skips them in short runs.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the commands of the documentation")
	}
	binary := filepath.Join(t.TempDir(), "vlmem")
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/vlmem").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}

// shell runs a script in a folder, with vlmem's own folder first on the path, and returns its exit code and output.
func shell(t *testing.T, folder, binary, script string, variables ...string) (int, string) {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // far beyond any of them, so that none hangs the tests
	defer cancel()
	cmd := exec.CommandContext(ctx, bash, "-e", "-o", "pipefail", "-c", script)
	cmd.WaitDelay = time.Second
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), append(variables,
		"PATH="+filepath.Dir(binary)+string(filepath.ListSeparator)+os.Getenv("PATH"))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, out.String()
}

// advised writes the settings that the recipes hold, into the folder named after it.
const advised = "vlmem advise --for vllm --hardware rtx-4090 --model qwen3-vl-8b -o"

func TestStepsOfTheAction(t *testing.T) {
	binary := build(t)
	data, err := os.ReadFile("action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs map[string]struct{ Default string }
		Runs   struct {
			Steps []struct {
				Name, Run, Uses string
				Env             map[string]string
			}
		}
	}
	if err := yaml.Load(data, &action); err != nil {
		t.Fatal(err)
	}
	folder, temp := t.TempDir(), t.TempDir()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if code, out := shell(t, folder, binary, advised+" ./"); code != 0 {
		t.Fatal(out)
	}
	given := map[string]string{"github.action_path": root, "runner.temp": temp, "inputs.hardware": "rtx-4090",
		"inputs.for": "vllm", "inputs.config": "vllm.yaml"}
	expression := regexp.MustCompile(`\$\{\{ *([\w.-]+) *\}\}`)
	ran := 0
	for _, step := range action.Runs.Steps {
		if step.Run == "" {
			continue
		}
		if expression.MatchString(step.Run) {
			t.Errorf("step %q: an expression is pasted into the shell's text", step.Name)
		}
		variables := []string{"GITHUB_STEP_SUMMARY=" + filepath.Join(temp, "step")}
		value := func(e string) string {
			name := expression.FindStringSubmatch(e)[1]
			if v, ok := given[name]; ok {
				return v
			}
			return action.Inputs[strings.TrimPrefix(name, "inputs.")].Default
		}
		for name, text := range step.Env {
			variables = append(variables, name+"="+expression.ReplaceAllStringFunc(text, value))
		}
		if code, out := shell(t, folder, binary, step.Run, variables...); code != 0 && code != 4 {
			t.Errorf("step %q: exit %d\n%s", step.Name, code, out)
		}
		ran++
	}
	if ran != 2 {
		t.Errorf("%d steps ran, want 2", ran)
	}
	written(t, filepath.Join(temp, "step"))
	written(t, filepath.Join(folder, "vlmem-gate.xml"))
}

// written fails where a file is not there or empty.
func written(t *testing.T, file string) {
	t.Helper()
	if info, err := os.Stat(file); err != nil || info.Size() == 0 {
		t.Errorf("%s was not written: %v", filepath.Base(file), err)
	}
}

func TestGitLabSnippet(t *testing.T) {
	binary := build(t)
	folder := t.TempDir()
	if code, out := shell(t, folder, binary, "mkdir deploy && "+advised+" deploy/"); code != 0 {
		t.Fatal(out)
	}
	for _, block := range fenced(t, "docs/ci.md", "yaml") {
		var jobs map[string]struct{ Script []string }
		if err := yaml.Load([]byte(block), &jobs); err != nil || len(jobs["memory"].Script) == 0 {
			continue // the workflow of GitHub, whose action has a test of its own
		}
		for _, line := range jobs["memory"].Script {
			if strings.HasPrefix(line, "go install") {
				continue // built by the test, elsewhere
			}
			if code, out := shell(t, folder, binary, line); code != 0 && code != 4 {
				t.Errorf("%s: exit %d\n%s", line, code, out)
			}
		}
		return
	}
	t.Error("docs/ci.md has no GitLab job")
}

// fenced returns the blocks of a language in a Markdown file.
func fenced(t *testing.T, file, language string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// commands returns the lines of a Markdown file's code blocks, indented or fenced, that start vlmem. In a block with a
// prompt the other lines are output. Not run are lines with a word in capitals, which stands for something, those cut
// short by …, those that go on to another program, and watches that wait for pressure to come.
func commands(text string) []string {
	var list, block []string
	fence, prompt := false, false
	flush := func() {
		for _, line := range block {
			command, prompted := strings.CutPrefix(line, "$ ")
			command, comment, _ := strings.Cut(command, "  #")
			if prompted == prompt && strings.HasPrefix(command, "vlmem ") && runs(command) && !strings.Contains(comment, "…") {
				list = append(list, strings.TrimSpace(command))
			}
		}
		block, prompt = nil, false
	}
	for line := range strings.Lines(text) {
		code, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fence = !fence
			flush()
		case fence || indented:
			block = append(block, strings.TrimSpace(code))
			prompt = prompt || strings.HasPrefix(strings.TrimSpace(code), "$ ")
		case strings.TrimSpace(line) != "":
			flush()
		}
	}
	flush()
	return list
}

// runs reports whether a command can be run as it stands, and ends.
func runs(command string) bool {
	return !unfit.MatchString(command) && !strings.Contains(command, "…") && (!strings.HasPrefix(command, "vlmem watch") ||
		strings.Contains(command, "--once"))
}

var unfit = regexp.MustCompile(`(?:^|[ =,/])[A-Z][A-Z]+\b|&&|\|\||;`)

// TestDocumentedCommands runs every command of README and docs in one folder, in order, with the files that they name.
func TestDocumentedCommands(t *testing.T) {
	binary := build(t)
	if runtime.GOOS != "linux" {
		t.Skip("the documentation is written for Linux")
	}
	folder := t.TempDir()
	prepare := "mkdir folder && vlmem trace gen --model qwen3-vl-2b --image 64x64 --decode 2 -o recording.trace && " +
		"vlmem trace export --to snapshot recording.trace -o snapshot.pickle && " +
		"cp snapshot.pickle before.pickle && cp snapshot.pickle after.pickle && cp snapshot.pickle main.pickle && " +
		"vlmem probe --reported --format yaml -o laptop.yaml && mkdir nodes && cp laptop.yaml nodes && " +
		"printf 'JobID|JobName|State|MaxRSS|NodeList\\n7.batch|batch|COMPLETED|2000000000|n1\\n' >sacct.txt && " +
		"vlmem advise --for llama-server --hardware i5-10210u+gtx-1080 --model qwen3-vl-4b -o ./ && " +
		"mkdir deploy && " + advised + " deploy/"
	if code, out := shell(t, folder, binary, prepare); code != 0 {
		t.Fatalf("%s: exit %d\n%s", prepare, code, out)
	}
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, file := range append([]string{"README.md"}, files...) {
		if file == filepath.Join("docs", "commands.md") {
			continue // generated from the commands themselves
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commands(string(data)) {
			if slices.Contains(seen, line) {
				continue
			}
			seen = append(seen, line)
			begun := time.Now()
			if code, out := shell(t, folder, binary, line); code == 2 || code > 4 {
				t.Errorf("%s: %s: exit %d\n%s", file, line, code, out)
			}
			t.Logf("%5.1f s  %s", time.Since(begun).Seconds(), line)
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d commands found", len(seen))
	}
}

// TestDocumentedOutput compares what pages show under a prompt with what the command writes, line by line up to …; of a
// benchmark what does not depend on the machine. Every page's are compared, but for the sketch of design.md.
func TestDocumentedOutput(t *testing.T) {
	binary := build(t)
	files, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, file := range append(files, "README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		page, _, _ := strings.Cut(string(text), "(the shape, not the figures)")
		for _, m := range shown.FindAllStringSubmatch(page, -1) {
			compareShown(t, binary, file, m[1], m[2])
			compared++
		}
	}
	if compared < 5 {
		t.Errorf("%d outputs are compared", compared)
	}
}

// compareShown runs a command and compares.
func compareShown(t *testing.T, binary, file, command, want string) {
	t.Helper()
	code, out := shell(t, t.TempDir(), binary, command+" 2>/dev/null")
	want, _, _ = strings.Cut(regexp.MustCompile("(?m)^ {4}").ReplaceAllString(want, ""), "\n…")
	if strings.HasPrefix(command, "vlmem bench") {
		want, out = exact(want), exact(out)
	}
	wanted, got := strings.Split(strings.TrimRight(want, "\n"), "\n"), strings.Split(out, "\n")
	for i, line := range wanted {
		if i >= len(got) || got[i] != line {
			t.Fatalf("%s: %s: exit %d, line %d is shown as\n%s\nof\n%s", file, command, code, i+1, line, out)
		}
	}
}

// exact is a benchmark over addresses without its times: the three columns behind an allocator's name. Runs that write
// pages, which come after it, are the machine's.
func exact(benchmark string) string {
	addresses, _, _ := strings.Cut(benchmark, "\ntouched:")
	times := regexp.MustCompile(`(?m)^(\w+)( +[\d.,]+){3}( +.*B +.*%.*)$`)
	spaces := regexp.MustCompile(` +`)
	return spaces.ReplaceAllString(times.ReplaceAllString(addresses, "$1 $3"), " ")
}

// TestExactLeavesOutTimesAlone: bytes and overheads of a benchmark are compared.
func TestExactLeavesOutTimesAlone(t *testing.T) {
	line := func(times, bytes string) string {
		return exact("x\nvlmem  " + times + "  101.1 MiB  " + bytes + "\ntouched: y")
	}
	if line("167.0 60.1 177.9", "112 MiB  10.83 %  10 MiB") != line("1,068  59 119", "112 MiB  10.83 %    10 MiB") {
		t.Error("times are compared")
	}
	if line("1 2 3", "112 MiB  10.83 %  10 MiB") == line("1 2 3", "112 MiB  10.84 %  10 MiB") ||
		line("1 2 3", "112 MiB  10.83 %  10 MiB") == line("1 2 3", "114 MiB  10.83 %  10 MiB") {
		t.Error("bytes are not compared")
	}
}

// shown is a command under a prompt and what a page shows of its output.
var shown = regexp.MustCompile("(?m)^    \\$ (vlmem .*)\n((?:    .*\n|\n)*)")

// TestActionsArePinned: whoever moves a tag of an action changes nothing here.
func TestActionsArePinned(t *testing.T) {
	files, err := filepath.Glob(".github/workflows/*.yml")
	if err != nil {
		t.Fatal(err)
	}
	uses := regexp.MustCompile(`uses: *([^ \n]+)`)
	for _, file := range append(files, "action.yml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range uses.FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(m[1], "./") && !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned by commit", file, m[1])
			}
		}
	}
}
