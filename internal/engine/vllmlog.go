package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/vlmem/vlmem/internal/units"
)

// vllmLines are what vLLM's workers log of a card while they start (vllm/v1/worker/gpu_worker.py and
// gpu_model_runner.py), in GiB with two digits. What loading the model took is not among them: it is tower and decoder
// in one.
var vllmLines = []struct {
	name string
	line *regexp.Regexp
}{
	{KVCache, regexp.MustCompile(`Available KV cache memory: (\d+(?:\.\d+)?) GiB`)},
	{"CUDA graphs", regexp.MustCompile(`Graph capturing finished in \d+ secs, took (-?\d+(?:\.\d+)?) GiB`)},
}

// errNoVLLMSizes is the error of a log without sizes.
var errNoVLLMSizes = errors.New("no sizes in the log; vLLM prints them at its level INFO")

// ReadVLLMLog reads what a vLLM server said of one card. Alike cards say it each: the last counts.
func ReadVLLMLog(r io.Reader) ([]Item, error) {
	found := map[string]Item{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, l := range vllmLines {
			m := l.line.FindSubmatch(lines.Bytes())
			if m == nil {
				continue
			}
			gib, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				return nil, fmt.Errorf("reading the log: %s of %s GiB: %w", l.name, m[1], err)
			}
			size := func(n float64) units.Bytes { return units.Bytes(max(0, n) * float64(units.GiB)) }
			found[l.name] = Item{Name: l.name, Where: "device", Bytes: size(gib), Low: size(gib - 0.005),
				High: size(gib + 0.005), Source: "log", Why: "vLLM"}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	if len(found) == 0 {
		return nil, errNoVLLMSizes
	}
	var items []Item
	for _, l := range vllmLines {
		if i, ok := found[l.name]; ok {
			items = append(items, i)
		}
	}
	return items, nil
}
