package engine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// FitParamsTool is llama.cpp's own estimator: it loads a header, reserves every buffer without allocating any, and with
// --fit-print says what each device would hold. It knows nothing of the vision tower (llama.cpp tools/fit-params).
const FitParamsTool = "llama-fit-params"

// ErrNoRows means that what was read is not llama-fit-params' table.
var ErrNoRows = errors.New("no line of a device and its model, context and compute MiB")

// fitParamsKeys are the settings of llama-server that the tool takes and that decide a buffer.
var fitParamsKeys = map[string]bool{
	"ctx-size": true, "parallel": true, "ubatch-size": true, "n-gpu-layers": true, "flash-attn": true,
	"cache-type-k": true, "cache-type-v": true,
}

// FitArguments ask FitParamsTool what a GGUF takes under settings. Repacked weights lie in a buffer that the tool's
// sums leave out, so that repacking is switched off.
func FitArguments(gguf string, s Settings) ([]string, error) {
	if s.Name == "" {
		s.Name = s.Model.Name
	}
	settings, err := s.llamaSettings()
	if err != nil {
		return nil, err
	}
	list := []string{"--model", gguf}
	for _, x := range settings {
		if fitParamsKeys[x.key] {
			list = append(list, "--"+x.key, plain(x.value))
		}
	}
	return append(list, "--no-repack", "--fit-print", "on"), nil
}

// FitMemory is an estimate under the tool's terms: it reserves logits for a whole batch, where the server has those of
// its slots.
func FitMemory(m *profile.Model, o Options) (*Memory, error) {
	o.Outputs, o.Llama.NoRepack = 0, true
	return Estimate(llamaCPP.Name, m, o)
}

// fitParamsRow is a device's name, then whole MiB of model, context and compute. The last row is the host's, which the
// first releases wrote in lower case.
var fitParamsRow = regexp.MustCompile(`^(\S+) +(\d+) +(\d+) +(\d+) *$`)

// ReadFitParams reads what FitParamsTool printed on stdout, as items to hold against an estimate of the engine
// llama.cpp: the tool's graph has logits for a whole batch. MiB are rounded down there, which is their interval.
func ReadFitParams(r io.Reader) ([]Item, error) {
	var items []Item
	lines := bufio.NewScanner(r)
	host := false
	for n := 1; lines.Scan(); n++ {
		m := fitParamsRow.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		where := "device"
		if strings.EqualFold(m[1], "host") {
			where, host = "host", true
		}
		for i, name := range []string{Weights, KVCache, Compute} {
			mib, err := strconv.ParseInt(m[2+i], 10, 40)
			if err != nil {
				return nil, fmt.Errorf("line %d: %s of %s: %w", n, name, m[1], err)
			}
			low := units.Bytes(mib) * units.MiB
			items = append(items, Item{Name: name, Bytes: low, Low: low, High: low + units.MiB - 1, Where: where,
				Source: FitParamsTool, Why: m[1]})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the table of %s: %w", FitParamsTool, err)
	}
	if !host {
		return nil, ErrNoRows
	}
	return items, nil
}
