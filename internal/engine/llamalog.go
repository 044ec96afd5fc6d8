package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/vlmem/vlmem/internal/units"
)

// ErrNoBuffers means that a log names no buffer: it is not llama.cpp's, or says too little.
var ErrNoBuffers = errors.New("no buffer sizes in the log; llama.cpp prints them with -lv 4 (builds before May 2026 " +
	"always)")

// LlamaLog is what a llama.cpp program said of itself while it loaded. Numbers and Texts are the last of each name that
// print_info, llama_context and the dump of metadata give.
type LlamaLog struct {
	Items   []Item
	Numbers map[string]float64
	Texts   map[string]string
	Server  bool // it is llama-server's
}

// What llama.cpp prints of a buffer: who, where, which, MiB; builds of 2024 left "model" out. The tower's weights stand
// in a line that names no device, and which it is before that. The table at the end has whole MiB of model, context and
// compute.
var (
	llamaBuffer = regexp.MustCompile(
		`(\w+):\s+(\S+)\s+(?:(model|KV|compute|output)\s+)?buffer size\s*=\s*([0-9.]+) MiB`)
	llamaTowerSize = regexp.MustCompile(`(?:load_hparams|clip_model_load): model size:\s+([0-9.]+) Mi?B`)
	llamaTowerAt   = regexp.MustCompile(`CLIP using (\S+) backend`)
	llamaPrompts   = regexp.MustCompile(`cache state: \d+ prompts, ([0-9.]+) MiB`)
	llamaTable     = regexp.MustCompile(`breakdown_print: \|\s+- (\S+)[^|]*\|\D*(?:\d+ = \d+ \+ \()?\s*\d+ =\s*(\d+) ` +
		`\+\s*(\d+) \+\s*(\d+)`)
	llamaNumber = regexp.MustCompile(
		`(?:print_info|llm_load_print_meta|llama_context|llama_new_context_with_model): (\w+(?: \w+)?)\s*= (.+)`)
	llamaMeta      = regexp.MustCompile(`- kv\s+\d+:\s+(\S+) (\w+)\s+= (.*)`)
	llamaTensors   = regexp.MustCompile(`loaded meta data with \d+ key-value pairs and (\d+) tensors from (.*) \(version`)
	llamaOffloaded = regexp.MustCompile(`offloaded (\d+)/(\d+) layers to GPU`)
	llamaCacheType = regexp.MustCompile(`K \((\w+)\):.*V \((\w+)\):`)
	llamaBuildLine = regexp.MustCompile(`build(?:_info)?: b?(\d{4,6})\b`)
	llamaFeature   = regexp.MustCompile(`(\w+) = 1 \|`)
	llamaInputs    = regexp.MustCompile(`input tensors = (\d+)$`)
	llamaFree      = regexp.MustCompile(`using device [A-Za-z]+(\d+) .* - (\d+) MiB free$`)
	llamaLoadMode  = regexp.MustCompile(`load_mode = ([\w+]+)`)
)

// ReadLlamaLog reads the buffers that a llama.cpp program printed while it loaded, as items to hold against an
// estimate.
func ReadLlamaLog(r io.Reader) ([]Item, error) {
	log, err := ParseLlamaLog(r)
	if err != nil {
		return nil, err
	}
	if len(log.Items) == 0 {
		return nil, ErrNoBuffers
	}
	return log.Items, nil
}

// ParseLlamaLog reads a log, of old and new builds, in UTF-8 or in the UTF-16 that PowerShell writes. What is printed
// twice, because a context was reserved again, counts once, the last time. Sizes are rounded by the log to a hundredth
// of a MiB, in the table to a whole one, which is their interval.
func ParseLlamaLog(r io.Reader) (*LlamaLog, error) {
	const most = 256 << 20 // far above what loading prints
	data, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	p := llamaLogParser{log: LlamaLog{Numbers: map[string]float64{}, Texts: map[string]string{}}}
	for line := range strings.SplitSeq(asUTF8(data), "\n") {
		if err := p.line(strings.TrimRight(line, "\r")); err != nil {
			return nil, err
		}
	}
	if len(p.log.Items) == 0 {
		p.log.Items = p.table
	}
	p.nameCards()
	return &p.log, nil
}

// asUTF8 undoes UTF-16, which a byte order mark or a zero in the first letters gives away.
func asUTF8(data []byte) string {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order, data = binary.LittleEndian, data[2:]
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order, data = binary.BigEndian, data[2:]
	case len(data) > 3 && data[1] == 0 && data[3] == 0:
		order = binary.LittleEndian
	default:
		return string(bytes.TrimPrefix(data, []byte{0xef, 0xbb, 0xbf}))
	}
	codes := make([]uint16, len(data)/2)
	for i := range codes {
		codes[i] = order.Uint16(data[2*i:])
	}
	return string(utf16.Decode(codes))
}

type llamaLogParser struct {
	log   LlamaLog
	table []Item // of the breakdown at the end
	tower string // the backend that the projector uses
}

func (p *llamaLogParser) line(text string) error {
	if m := llamaBuffer.FindStringSubmatch(text); m != nil {
		if m[3] == "" && !strings.HasSuffix(m[1], "load_tensors") {
			return nil
		}
		return p.put(&p.log.Items, logName(m[1], m[2], m[3]), m[2], m[1], m[4], 0.005)
	}
	if m := llamaTowerSize.FindStringSubmatch(text); m != nil {
		return p.put(&p.log.Items, VisionWeights, p.tower, "load_hparams", m[1], 0.005)
	}
	if m := llamaPrompts.FindStringSubmatch(text); m != nil {
		return p.putMost(PromptCache, m[1])
	}
	if m := llamaTable.FindStringSubmatch(text); m != nil {
		for i, name := range []string{Weights, KVCache, Compute} {
			if err := p.put(&p.table, name, m[1], "memory breakdown", m[2+i], 1); err != nil {
				return err
			}
		}
		return nil
	}
	p.setting(text)
	return nil
}

// setting keeps what a line says that is no buffer.
func (p *llamaLogParser) setting(text string) {
	for _, x := range []struct {
		form  *regexp.Regexp
		names []string
	}{
		{llamaTensors, []string{"tensors", "file"}}, {llamaOffloaded, []string{"offloaded", "layers"}},
		{llamaCacheType, []string{"type_k", "type_v"}}, {llamaBuildLine, []string{"build"}},
		{llamaLoadMode, []string{"load_mode"}}, {llamaInputs, []string{"inputs"}}, {llamaTowerAt, []string{"tower"}},
	} {
		for i, m := 0, x.form.FindStringSubmatch(text); m != nil && i < len(x.names); i++ {
			p.keep(x.names[i], m[i+1])
		}
	}
	if m := llamaFree.FindStringSubmatch(text); m != nil {
		p.keep("free."+m[1], m[2])
	} else if m := llamaMeta.FindStringSubmatch(text); m != nil {
		p.keep("kv."+m[1], m[3])
	} else if m := llamaNumber.FindStringSubmatch(text); m != nil {
		p.keep(m[1], m[2])
	}
	if strings.Contains(text, "system_info:") {
		for _, m := range llamaFeature.FindAllStringSubmatch(text, -1) {
			p.keep("cpu."+m[1], "1")
		}
	}
	if t := p.log.Texts["tower"]; t != "" {
		p.tower = t
	}
	p.log.Server = p.log.Server || strings.Contains(text, " srv ") || strings.HasPrefix(text, "srv ")
}

func (p *llamaLogParser) keep(name, value string) {
	value = strings.TrimSpace(value)
	p.log.Texts[name] = value
	if n, err := strconv.ParseFloat(value, 64); err == nil {
		p.log.Numbers[name] = n
	}
}

// put adds a buffer of so many MiB, give or take a rounding.
func (p *llamaLogParser) put(list *[]Item, name, device, who, mib string, rounding float64) error {
	size, err := strconv.ParseFloat(mib, 64)
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", who, name, err)
	}
	b, half := size*float64(units.MiB), rounding*float64(units.MiB)
	item := Item{
		Name: name, Where: logPlace(device), Bytes: units.Bytes(b), Low: units.Bytes(max(0, b-half)),
		High: units.Bytes(b + half), Source: "log", Why: strings.TrimSpace(who + " " + device),
		Buffer: device,
	}
	if i := slices.IndexFunc(*list, func(x Item) bool { return x.Name == item.Name && x.Why == item.Why }); i >= 0 {
		(*list)[i] = item
	} else if item.High > 0 {
		*list = append(*list, item)
	}
	return nil
}

// putMost keeps the most that a server's prompts took of the host.
func (p *llamaLogParser) putMost(name, mib string) error {
	var now []Item
	if err := p.put(&now, name, "", "cache state", mib, 0.0005); err != nil {
		return err
	}
	i := slices.IndexFunc(p.log.Items, func(x Item) bool { return x.Name == name })
	switch {
	case i < 0:
		p.log.Items = append(p.log.Items, now...)
	case p.log.Items[i].Bytes < now[0].Bytes:
		p.log.Items[i] = now[0]
	}
	return nil
}

// logName tells the tower's buffers from the decoder's by the function that printed the line, and weights from copies
// of them by the buffer.
func logName(who, device, which string) string {
	switch which {
	case "model", "":
		if strings.HasPrefix(device, "AMX") || strings.HasPrefix(device, "CPU_") && device != "CPU_Mapped" {
			return RepackedWeights // CPU_REPACK, and CPU_AARCH64 in builds before March 2025
		}
		return Weights
	case "KV":
		return KVCache
	case "output":
		return Output
	}
	if strings.HasSuffix(who, "compute_meta") { // reserve_compute_meta, earlier alloc_compute_meta
		return Vision
	}
	return Compute
}

// logPlace is host for CPU, CPU_Mapped, AMX, CUDA_Host and their like, and for what names no device; else the card.
func logPlace(device string) string {
	switch {
	case device == "", device == "Host", device == "AMX", device == "BLAS", strings.HasPrefix(device, "CPU"),
		strings.HasSuffix(device, "_Host"):
		return "host"
	}
	return "device"
}

var cardNumber = regexp.MustCompile(`^[A-Za-z]+(\d+)`)

// nameCards tells several cards apart as an estimate does.
func (p *llamaLogParser) nameCards() {
	number := func(i Item) string {
		if m := cardNumber.FindStringSubmatch(i.Buffer); m != nil && i.Where != "host" {
			return m[1]
		}
		return ""
	}
	seen := map[string]bool{}
	for _, i := range p.log.Items {
		if n := number(i); n != "" {
			seen[n] = true
		}
	}
	p.log.Numbers["cards"] = float64(len(seen))
	if len(seen) < 2 {
		return
	}
	for i := range p.log.Items {
		if n := number(p.log.Items[i]); n != "" {
			p.log.Items[i].Where = "device" + n
		}
	}
}
