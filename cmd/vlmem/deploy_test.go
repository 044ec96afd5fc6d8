package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/shard"
)

const deploy = "../../deploy"

// accepted holds a command line to the program's own flags, without running it.
func accepted(args []string) error {
	root := newRootCmd(&environment{stdout: io.Discard, stderr: io.Discard})
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if cmd == root {
		return errors.New("names no command")
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	var failed error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch value := f.Value.String(); f.Name {
		case "shard":
			_, failed = shard.Parse(value, func(string) (string, bool) { return "0", true })
		case "model":
			for _, name := range strings.Split(strings.Trim(value, "[]"), ",") {
				if _, err := catalog.Model(name); err != nil && !strings.HasPrefix(name, "$") {
					failed = err
				}
			}
		case "format":
			if !strings.Contains(f.Usage, value) {
				failed = errors.New("no format " + value)
			}
		}
	})
	return errors.Join(failed, cmd.ValidateArgs(cmd.Flags().Args()))
}

// found lists the files of deploy that end so.
func found(t *testing.T, ending string, least int) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(deploy, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ending) {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < least {
		t.Fatalf("%d files end in %s, want %d, %v", len(files), ending, least, err)
	}
	return files
}

// object is what the tests ask of a manifest; tools/fleet decodes all of it into Kubernetes' own types.
type object struct {
	APIVersion string         `yaml:"apiVersion"`
	Kind       string         `yaml:"kind"`
	Metadata   map[string]any `yaml:"metadata"`
	Spec       struct {
		CompletionMode string `yaml:"completionMode"`
		Completions    int    `yaml:"completions"`
		Template       struct {
			Spec struct {
				HostNetwork     bool        `yaml:"hostNetwork"`
				HostPID         bool        `yaml:"hostPID"`
				Token           *bool       `yaml:"automountServiceAccountToken"`
				SecurityContext permissions `yaml:"securityContext"`
				InitContainers  []container `yaml:"initContainers"`
				Containers      []container `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

type permissions struct {
	Privileged   bool  `yaml:"privileged"`
	Escalation   *bool `yaml:"allowPrivilegeEscalation"`
	ReadOnlyRoot bool  `yaml:"readOnlyRootFilesystem"`
	NonRoot      bool  `yaml:"runAsNonRoot"`
	Capabilities struct {
		Add  []string `yaml:"add"`
		Drop []string `yaml:"drop"`
	} `yaml:"capabilities"`
}

type container struct {
	Name            string      `yaml:"name"`
	Image           string      `yaml:"image"`
	Args            []string    `yaml:"args"`
	SecurityContext permissions `yaml:"securityContext"`
}

// decoded reads the documents of a YAML file; a key that is there twice is an error.
func decoded[T any](t *testing.T, path string) []T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var o T
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, o)
	}
}

// TestManifestsRunWhatVlmemTakes: every container's command line is one, with no privilege that it does not need.
func TestManifestsRunWhatVlmemTakes(t *testing.T) {
	commands := 0
	for _, path := range found(t, ".yaml", 8) {
		if !strings.Contains(path, "/kubernetes/") {
			continue
		}
		for _, o := range decoded[object](t, path) {
			if o.APIVersion == "" || o.Kind == "" || o.Kind != "Kustomization" && o.Metadata["name"] == nil {
				t.Errorf("%s: no apiVersion, kind or name", path)
			}
			pod := o.Spec.Template.Spec
			for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
				if len(c.Args) > 0 {
					commands++
					if err := accepted(c.Args); err != nil {
						t.Errorf("%s: container %s: %v: %v", path, c.Name, c.Args, err)
					}
				}
				s := c.SecurityContext
				whole := c.Image != "" // the others are patches
				if whole && (pod.HostNetwork || pod.HostPID || pod.Token == nil || *pod.Token || s.Privileged ||
					s.Escalation == nil ||
					*s.Escalation || !s.ReadOnlyRoot || len(s.Capabilities.Add) > 0 ||
					!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) ||
					!(s.NonRoot || pod.SecurityContext.NonRoot) && c.Name != "probe") {
					t.Errorf("%s: container %s has more privileges than it needs: %+v", path, c.Name, s)
				}
			}
		}
	}
	if commands < 4 {
		t.Errorf("only %d commands found", commands)
	}
}

// TestJobHasAsManyShardsAsCompletions: the count stands in two places, and the files of all are merged.
func TestJobHasAsManyShardsAsCompletions(t *testing.T) {
	job := decoded[object](t, deploy+"/kubernetes/bench/job.yaml")[0]
	args := strings.Join(job.Spec.Template.Spec.Containers[0].Args, " ")
	if job.Spec.CompletionMode != "Indexed" || job.Spec.Completions != 8 || !strings.Contains(args, "--shard=/8 ") {
		t.Errorf("%s, %d completions of %s", job.Spec.CompletionMode, job.Spec.Completions, args)
	}
	merge := decoded[object](t, deploy+"/kubernetes/merge/merge.yaml")[0].Spec.Template.Spec.Containers[0].Args
	elsewhere := func(a string) bool { return !strings.HasPrefix(a, "/shards/") }
	if shards := slices.DeleteFunc(merge, elsewhere); len(shards) != 8 {
		t.Errorf("%d files are merged", len(shards))
	}
	script, err := os.ReadFile(deploy + "/slurm/bench.sbatch")
	if err != nil || !bytes.Contains(script, []byte("--array=0-7\n")) || !bytes.Contains(script, []byte("--shard /8 ")) {
		t.Errorf("the array and its shards differ: %v", err)
	}
}

// TestScriptsAndPageRunWhatVlmemTakes holds the commands of Slurm's scripts and of docs/cluster.md.
func TestScriptsAndPageRunWhatVlmemTakes(t *testing.T) {
	files := slices.Concat(found(t, ".sbatch", 2), found(t, ".sh", 1), []string{"../../docs/cluster.md"})
	command := regexp.MustCompile(`(?m)^(?:exec |srun )*vlmem ([a-z].*)$`)
	example := regexp.MustCompile(`(?m)^    vlmem ([a-z].*)$`)
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		matches := command.FindAllStringSubmatch(string(data), -1)
		if strings.HasSuffix(path, ".md") {
			matches = example.FindAllStringSubmatch(string(data), -1)
		}
		if len(matches) == 0 {
			t.Errorf("%s: no command found", path)
		}
		for _, m := range matches {
			line, _, _ := strings.Cut(m[1], " >")
			if err := accepted(strings.Fields(strings.ReplaceAll(line, `"`, ""))); err != nil {
				t.Errorf("%s: vlmem %s: %v", path, line, err)
			}
		}
	}
}

// metricNames is the names of the metrics that watch writes.
func metricNames(t *testing.T) []string {
	t.Helper()
	var b bytes.Buffer
	r := pressure.Reading{Stall: &pressure.Stall{}, Budgets: []pressure.Budget{{Name: "host", Limit: 1}},
		Unread: []pressure.Unread{{Name: "card", Last: true, Age: time.Second}}}
	if err := report.Pressure(&b, r, pressure.State{}); err != nil {
		t.Fatal(err)
	}
	wellFormed(t, b.String())
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^(vlmem_[a-z_]+)`).FindAllStringSubmatch(b.String(), -1) {
		if !slices.Contains(names, m[1]) {
			names = append(names, m[1])
		}
	}
	return names
}

// queries are the PromQL expressions of the rules and the dashboard.
func queries(t *testing.T) []string {
	t.Helper()
	type rules struct {
		Groups []struct {
			Rules []struct{ Expr string }
		}
	}
	var list []string
	for _, g := range decoded[rules](t, deploy+"/prometheus/rules.yaml")[0].Groups {
		for _, r := range g.Rules {
			list = append(list, r.Expr)
		}
	}
	data, err := os.ReadFile(deploy + "/grafana/vlmem.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query any } }
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			list = append(list, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		if q, ok := v.Query.(map[string]any); ok {
			list = append(list, q["query"].(string))
		}
	}
	return list
}

func TestRulesAndDashboardNameWhatWatchWrites(t *testing.T) {
	names, used := metricNames(t), map[string]bool{}
	for _, q := range queries(t) {
		found := regexp.MustCompile(`\bvlmem_[a-z_]+`).FindAllString(q, -1)
		if len(found) == 0 {
			t.Errorf("%q names no metric", q)
		}
		for _, name := range found {
			if used[name] = true; !slices.Contains(names, name) {
				t.Errorf("%q: watch writes no %s", q, name)
			}
		}
	}
	if len(used) != len(names) {
		t.Errorf("of %v only %v are looked at", names, used)
	}
}
