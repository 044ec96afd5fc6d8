package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Witness is who speaks for the engine: the log that a server wrote while it loaded, or llama.cpp's own estimator about
// a file of weights. One of the two is given.
type Witness struct{ Log, GGUF string }

// HeldToEngine holds the estimate that a configuration rests on against what the engine itself says.
func HeldToEngine(ctx context.Context, target string, by Witness, in advise.Inputs) (advise.Verification, error) {
	d, err := advise.Deploy(target, in)
	if err != nil {
		return advise.Verification{}, err
	}
	if by.GGUF != "" {
		return heldToFitParams(ctx, by.GGUF, d)
	}
	return heldToLog(target, by.Log, d)
}

// heldToLog takes the buffers of a server's log.
func heldToLog(target, path string, d advise.Deployment) (advise.Verification, error) {
	f, err := file.Open(path)
	if err != nil {
		return advise.Verification{}, fmt.Errorf("reading --log: %w", err)
	}
	defer f.Close()
	e, err := engine.Lookup("--for", target, (*engine.Engine).Logs)
	if err != nil {
		return advise.Verification{}, err
	}
	said, err := e.ReadLog(f)
	if errors.Is(err, engine.ErrNoBuffers) || errors.Is(err, engine.ErrNoLoad) {
		return advise.Verification{}, verdict.Unsure.Errorf("reading --log %s: %w", path, err)
	}
	if err != nil {
		return advise.Verification{}, fmt.Errorf("reading --log %s: %w", path, err)
	}
	return advise.Held(d.Memory.Items, said, "the server's log"), nil
}

// heldToFitParams asks llama.cpp's own estimator about a weights file under the configuration's settings.
func heldToFitParams(ctx context.Context, gguf string, d advise.Deployment) (advise.Verification, error) {
	if _, err := estimate.ReadGGUF(gguf); err != nil { // the tool would crash on it
		return advise.Verification{}, fmt.Errorf("reading --gguf: %w", err)
	}
	arguments, err := engine.FitArguments(gguf, d.Settings)
	if err != nil {
		return advise.Verification{}, err
	}
	said, err := askFitParams(ctx, fitParamsLimit, arguments)
	if err != nil {
		return advise.Verification{}, err
	}
	mem, err := engine.FitMemory(d.Settings.Model, d.Options)
	if err != nil {
		return advise.Verification{}, err
	}
	return advise.Held(mem.Items, said, engine.FitParamsTool), nil
}

// fitParamsLimit is far above what the tool takes: it reads a header and reserves graphs, and a driver's start takes
// seconds.
const fitParamsLimit = 2 * time.Minute

// askFitParams runs the llama-fit-params found in PATH. What goes wrong there is the machine's fault, in one line.
func askFitParams(ctx context.Context, limit time.Duration, arguments []string) ([]engine.Item, error) {
	path, err := exec.LookPath(engine.FitParamsTool)
	if err != nil {
		return nil, verdict.Unable.Errorf("%s is not in PATH: it is built with llama.cpp's tools; --log takes a server's "+
			"log instead",
			engine.FitParamsTool)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, arguments...)
	cmd.WaitDelay = time.Second // what it started may hold its output open
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, verdict.Unable.Errorf("%s did not answer within %s", path, limit)
	case err != nil:
		return nil, verdict.Unable.Errorf("running %s: %w: %s", path, err, complaint(stderr.String()))
	}
	items, err := engine.ReadFitParams(bytes.NewReader(out))
	if err != nil {
		return nil, verdict.Unable.Errorf("reading what %s printed: %w; --fit-print needs a llama.cpp of April 2026 or later",
			path, err)
	}
	return items, nil
}

// complaint is the first line of a program's stderr that speaks of an error, else its last.
func complaint(stderr string) string {
	last := "it said nothing"
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "error") || strings.Contains(line, " E ") {
			return line
		}
		if line != "" {
			last = line
		}
	}
	return last
}
