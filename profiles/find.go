package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
)

// endings are what repositories append to a model's name and which format of its weights they say with it.
var endings = []struct{ end, quant string }{
	{"-gguf", ""}, {"-instruct", ""}, {"-thinking", ""}, {"-it", ""}, {"-hf", ""}, {"-unsloth-bnb-4bit", "nf4"},
	{"-bnb-4bit", "nf4"}, {"-fp8", "fp8"}, {"-fp8-dynamic", "fp8"}, {"-awq", "awq"}, {"-awq-4bit", "awq"},
	{"-awq-int4", "awq"}, {"-gptq-int4", "gptq"}, {"-gptq", "gptq"}, {"-w4a16", "w4a16"}, {"-quantized.w4a16", "w4a16"},
	{"-w8a8", "w8a8"}, {"-quantized.w8a8", "w8a8"}, {"-nvfp4", "nvfp4"}, {"-mxfp4", "mxfp4"},
}

// Find is the built-in model that a person means, and the format of weights that the name asks for, "" for none. Names
// are taken as repositories of Hugging Face, GGUF files' and Ollama's models spell them: Qwen/Qwen3-VL-8B-Instruct-FP8,
// unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M, qwen3-vl:8b-instruct-q4_K_M, Qwen3VL-8B. An unknown name is an error that
// offers the nearest.
func Find(typed string) (m profile.Model, quant string, err error) {
	name, tag, tagged := strings.Cut(strings.ToLower(typed[strings.LastIndex(typed, "/")+1:]), ":")
	gguf := strings.Contains(name, "-gguf")
	switch {
	case tagged && gguf:
		quant = tag
	case tagged && tag == "latest": // Ollama's own
		name += "-8b"
	case tagged:
		size, rest, _ := strings.Cut(tag, "-")
		name += "-" + size
		for _, word := range []string{"instruct", "thinking"} {
			rest = strings.TrimPrefix(strings.TrimPrefix(rest, word), "-")
		}
		quant = rest
	}
	for again := true; again; {
		again = false
		for _, e := range endings {
			if cut, ok := strings.CutSuffix(name, e.end); ok && cut != "" {
				name, again = cut, true
				if e.quant != "" {
					quant = e.quant
				}
			}
		}
	}
	if found := completed(name); found != "" {
		m, err = Model(found)
		return m, quant, err
	}
	return m, "", fmt.Errorf("unknown model %q: %s", typed, suggestion(name))
}

// completed is the built-in name that equals a normalised one, or that alone begins with it and goes on with a part of
// its own (qwen3-vl-30b: qwen3-vl-30b-a3b).
func completed(name string) string {
	var longer []string
	for _, known := range ModelNames() {
		if bare(known) == bare(name) {
			return known
		}
		if strings.HasPrefix(known, name+"-a") {
			longer = append(longer, known)
		}
	}
	if len(longer) == 1 {
		return longer[0]
	}
	return ""
}

// bare is a name without what people separate its parts by.
func bare(s string) string { return strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(s) }

// FindHardware reads a built-in machine or card by its name as people type it: RTX 3090, i5_10210U. The error of an
// unknown one offers the nearest.
func FindHardware(typed string) (profile.Hardware, error) {
	name := strings.ToLower(typed)
	for _, known := range HardwareNames() {
		if bare(known) == bare(name) {
			return Hardware(known)
		}
	}
	near := ""
	if names := nearest(HardwareNames(), name); len(names) > 0 {
		near = fmt.Sprintf("did you mean %s? ", strings.Join(names, ", "))
	}
	return profile.Hardware{}, fmt.Errorf("unknown hardware %q: %svlmem profiles lists the built-in ones; files end in "+
		".yaml or .json", typed, near)
}

// Sheets gives cards that a machine told of the rates of their data sheets: the built-in card with the same number on
// the bus, of several the one whose memory is nearest. Several may share memory and number, as RX 6800 and 6900 XT do;
// then the slowest stands for them. A card whose memory nobody told, as Intel's where no Vulkan is installed, is
// assumed to have that of its sheet.
func Sheets(h *profile.Hardware) error {
	for i := range h.Cards {
		c := &h.Cards[i]
		if err := assumeMemory(c); err != nil {
			return err
		}
		if c.BandwidthBytesPerS > 0 || c.PCIID == "" || c.VRAMBytes == nil {
			continue
		}
		sheet, err := sheetOf(c)
		if err != nil {
			return err
		}
		if sheet == nil {
			continue
		}
		c.Architecture, c.BandwidthBytesPerS = sheet.Architecture, sheet.BandwidthBytesPerS
		c.FP32FlopsPerS = sheet.FP32FlopsPerS
		for _, key := range []string{"architecture", "bandwidth_bytes_per_s", "fp32_flops_per_s"} {
			cite(c, key, "derived: the data sheet of "+sheet.Name)
		}
	}
	return nil
}

func cite(c *profile.Card, key, source string) {
	if c.Source == nil {
		c.Source = profile.Sources{}
	}
	c.Source[key] = source
}

// kept is the part of an Intel card's nominal memory that programs do not see: 94.4 % they do, by
// profiles/hardware/arc-a770.yaml.
const kept = 18

// assumeMemory gives a card that engines can use, and whose memory nobody told, that of its sheet: of several the
// least, and no more than the processor reaches on the bus, as there are cards of one number with half of the memory.
func assumeMemory(c *profile.Card) error {
	if c.VRAMBytes != nil || c.Unified || len(c.Backends) == 0 || c.PCIID == "" {
		return nil
	}
	sheets, err := sheetsOf(c.PCIID)
	if err != nil || len(sheets) == 0 {
		return err
	}
	least := slices.MinFunc(sheets, func(a, b *profile.Card) int { return cmp.Compare(*a.VRAMBytes, *b.VRAMBytes) })
	memory := *least.VRAMBytes
	if c.WindowBytes != nil {
		memory = min(memory, *c.WindowBytes-*c.WindowBytes/kept)
	}
	c.VRAMBytes = &memory
	cite(c, "vram_bytes", "assumed: the data sheet of "+least.Name+", as neither kernel nor Vulkan tells")
	return nil
}

// sheetOf is the built-in card with a card's number on the bus whose memory is within a twentieth and nearest; nil for
// none.
func sheetOf(told *profile.Card) (best *profile.Card, err error) {
	memory := *told.VRAMBytes
	far := func(c *profile.Card) int64 { return int64(max(*c.VRAMBytes-memory, memory-*c.VRAMBytes)) }
	sheets, err := sheetsOf(told.PCIID)
	for _, c := range sheets {
		if far(c) > int64(memory)/20 {
			continue
		}
		if best == nil || far(c) < far(best) || far(c) == far(best) && c.FP32FlopsPerS < best.FP32FlopsPerS {
			best = c
		}
	}
	return best, err
}

// sheetsOf are the built-in cards with a number on the bus.
func sheetsOf(id string) (sheets []*profile.Card, err error) {
	for _, name := range HardwareNames() {
		h, err := Hardware(name)
		if err != nil {
			return nil, err
		}
		for i := range h.Cards {
			if c := &h.Cards[i]; c.PCIID == id && c.VRAMBytes != nil {
				sheets = append(sheets, c)
			}
		}
	}
	return sheets, nil
}

// suggestion offers the nearest built-in models.
func suggestion(name string) string {
	if near := nearest(ModelNames(), name); len(near) > 0 {
		return fmt.Sprintf("did you mean %s? A folder, a config.json or a GGUF file is taken as well",
			strings.Join(near, ", "))
	}
	return fmt.Sprintf("want one of %s, a folder, a config.json or a GGUF file", strings.Join(ModelNames(), ", "))
}

// nearest are three names at most: those that begin as the given one does, then those that differ in the fewest
// letters; none where half of the letters differ in all.
func nearest(names []string, name string) []string {
	far := func(known string) int {
		if name != "" && strings.HasPrefix(known, name) {
			return 0
		}
		return distance(known, name)
	}
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return far(a) - far(b) })
	if far(names[0]) > len(name)/2 {
		return nil
	}
	return names[:min(3, len(names))]
}

// distance is the least number of letters to add, drop or change.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
