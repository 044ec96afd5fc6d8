// Command mutants plants faults in the program, one at a time, and runs the tests of the package that each lies in. A
// fault that no test catches is a gap in the tests: it is printed, and the exit code is 1.
//
//	go run ./tools/mutants                 every fault of faults.txt, about a minute each on two cores
//	go run ./tools/mutants -only alloc     those whose file's path holds a text
//	go run ./tools/mutants -list           whether every fault still has its place, without running anything
//
// Files are not touched: the compiler reads the changed one from a temporary folder (go build's -overlay). A fault is a
// block of three lines in faults.txt: the file, the text to replace, which stands in it exactly once, and its
// replacement.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed faults.txt
var text string

// fault is one change of one file.
type fault struct{ file, from, to string }

func main() {
	only := flag.String("only", "", "faults whose file's path holds this text")
	list := flag.Bool("list", false, "look for the faults' places and run nothing")
	limit := flag.Duration("limit", 5*time.Minute, "a test that takes longer is counted as one that fails")
	flag.Parse()
	code, err := run(*only, *list, *limit)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		code = 2
	}
	os.Exit(code)
}

func run(only string, list bool, limit time.Duration) (code int, err error) {
	faults, err := parse(text)
	if err != nil {
		return 2, err
	}
	caught, survived := 0, 0
	for i, f := range faults {
		if !strings.Contains(f.file, only) {
			continue
		}
		mutated, err := f.apply()
		if err != nil {
			return 2, err
		}
		if list {
			continue
		}
		dead, err := kills(f, mutated, limit)
		if err != nil {
			return 2, fmt.Errorf("fault %d in %s: %w", i+1, f.file, err)
		}
		verdict := "caught"
		if caught++; !dead {
			verdict, code = "SURVIVED", 1
			caught--
			survived++
		}
		fmt.Printf("%-8s  %s: %s -> %s\n", verdict, f.file, f.from, f.to)
	}
	if !list {
		fmt.Printf("%d caught, %d survived\n", caught, survived)
	}
	return code, nil
}

// parse reads blocks of three lines with empty lines between; # begins a comment.
func parse(text string) ([]fault, error) {
	var list []fault
	var block []string
	for n, line := range strings.Split(text+"\n", "\n") {
		switch {
		case strings.HasPrefix(line, "# "):
		case line != "":
			block = append(block, line)
		case len(block) == 3:
			list, block = append(list, fault{block[0], block[1], block[2]}), nil
		case len(block) > 0:
			return nil, fmt.Errorf("faults.txt:%d: a fault of %d lines, want file, text and replacement", n+1, len(block))
		}
	}
	return list, nil
}

// apply is the file with the fault in it.
func (f fault) apply() ([]byte, error) {
	data, err := os.ReadFile(f.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(data, []byte(f.from)); n != 1 || f.from == f.to {
		return nil, fmt.Errorf("%s: %q stands there %d times, want once", f.file, f.from, n)
	}
	return bytes.Replace(data, []byte(f.from), []byte(f.to), 1), nil
}

// kills runs the package's tests over the changed file and says whether they fail. A fault that does not compile is an
// error: it tries no test.
func kills(f fault, mutated []byte, limit time.Duration) (bool, error) {
	folder, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(folder)
	changed := filepath.Join(folder, filepath.Base(f.file))
	path, err := filepath.Abs(f.file)
	if err != nil {
		return false, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return false, err
	}
	list := filepath.Join(folder, "overlay.json")
	if err := errors.Join(os.WriteFile(changed, mutated, 0o600), os.WriteFile(list, overlay, 0o600)); err != nil {
		return false, err
	}
	pkg := "./" + filepath.Dir(f.file)
	if out, err := exec.Command("go", "vet", "-overlay", list, pkg).CombinedOutput(); err != nil {
		return false, fmt.Errorf("it does not compile: %s", bytes.TrimSpace(out))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	test := exec.CommandContext(ctx, "go", "test", "-overlay", list, "-short", "-failfast", "-count=1", pkg)
	test.WaitDelay = time.Second
	err = test.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, err
	}
	return err != nil, nil
}
