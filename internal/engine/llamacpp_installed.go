package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"time"
)

// versionLine is what `llama-server --version` prints: "version: 7079 (1a2b3c4)", and since September 2026
// "version: 0.5.0 (build 11063, commit 1a2b3c4)", where the build is 0 if nobody counted it.
var versionLine = regexp.MustCompile(`(?m)^version:\s+(?:v?(\d+\.\d+\.\d+)\S*)?\s*\(?(?:build |b)?(\d{3,6})?\b`)

// InstalledLlama is the build of the llama-server in PATH, as --build takes it. The program is asked for its version
// and given ten seconds: backends of cards are loaded before it answers.
func InstalledLlama() (string, error) {
	path, err := exec.LookPath("llama-server")
	if err != nil {
		return "", errors.New("no llama-server in PATH; name its build, as in b11549, or leave it out for any")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	said, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if build := versionIn(string(said)); build != "" {
		return build, nil
	}
	if err == nil {
		err = errors.New("it does not say which build it is")
	}
	return "", fmt.Errorf("asking %s --version: %w", path, err)
}

// versionIn is the build that a version text names, "" for none.
func versionIn(said string) string {
	m := versionLine.FindStringSubmatch(said)
	switch {
	case m == nil || m[1] == "" && m[2] == "":
		return ""
	case m[2] != "":
		return "b" + m[2]
	}
	return "v" + m[1]
}
