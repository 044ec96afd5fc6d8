package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tracePlan runs the command by itself and returns what it wrote and its error.
func tracePlan(t *testing.T, problem string, args ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "problem.csv")
	if err := os.WriteFile(file, []byte(problem), 0o644); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := newTracePlanCmd(&environment{stdout: &stdout, stderr: &stderr})
	cmd.SetArgs(append([]string{file}, args...))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err := cmd.ExecuteContext(context.Background())
	return stdout.String(), err
}

const threeBlocks = "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\n"

func TestTracePlan(t *testing.T) {
	out, err := tracePlan(t, threeBlocks, "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		LowerBound int64    `json:"lower_bound_bytes"`
		Height     int64    `json:"height_bytes"`
		Optimal    bool     `json:"optimal"`
		Seconds    *float64 `json:"seconds"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.LowerBound != 8 || got.Height != 8 || !got.Optimal || got.Seconds == nil {
		t.Errorf("got %s", out)
	}
	if out, err = tracePlan(t, threeBlocks, "--align", "512", "--format", "json"); err != nil ||
		!strings.Contains(out, `"height_bytes": 1024`) {
		t.Errorf("sizes rounded to 512: %v, %s", err, out)
	}
	if out, err = tracePlan(t, threeBlocks, "--format", "csv"); err != nil ||
		!strings.HasPrefix(out, "id,lower,upper,size,offset\n") || strings.Count(out, "\n") != 4 {
		t.Errorf("offsets: %v, %s", err, out)
	}
}

func TestTracePlanRefuses(t *testing.T) {
	for _, c := range []struct {
		problem string
		args    []string
		want    string
	}{
		{"id,lower,upper,size\nb1,3,3,4\n", nil, "problem.csv:2: "},
		{threeBlocks, []string{"--capacity", "many"}, "reading --capacity"},
		{threeBlocks, []string{"--align", "3"}, "want a power of two"},
		{threeBlocks, []string{"--capacity", "7"}, "needs 8 B, --capacity is 7 B"},
	} {
		if _, err := tracePlan(t, c.problem, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.args, err, c.want)
		}
	}
}
