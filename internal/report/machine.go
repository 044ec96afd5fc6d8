package report

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Machine is one probed machine with notes that follow from it.
type Machine struct {
	profile.Hardware
	Notes []string
	Fits  []fleet.Answer // models that were asked for, for a feature file
}

// Write renders the machine as a table for a screen, or as the document that --hardware takes back.
func (m Machine) Write(w io.Writer, format string) error {
	switch format {
	case "table":
	case "nfd":
		return Features(w, m.Hardware, m.Fits)
	default:
		return Document(w, format, m.Hardware)
	}
	s := screen{draft: draft{sheet: sheetOf(w)}}
	s.cpu(m.CPU, m.Measured)
	s.memory(m)
	s.nodes(m.NUMA)
	s.system(m)
	s.gpus(m)
	if m.Measured != nil {
		s.curve(m.Measured.Latency)
	}
	for _, n := range m.Notes {
		s.line("note", n)
	}
	for _, w := range m.Warnings {
		s.line("note", w.Text)
	}
	for _, key := range slices.Sorted(keys(m.Unknown)) {
		if key != "gpus" {
			s.line("unknown", key+": "+m.Unknown[key])
		}
	}
	s.line("next", "vlmem bench --model qwen3-vl-4b")
	_, err := io.WriteString(w, s.String())
	return err
}

func keys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

const labelWidth = 8

// screen gathers labelled lines, broken between words where they would be wider than the terminal.
type screen struct{ draft }

// line writes parts joined by a middle dot under a label. Lines break between parts, and within a part only where it is
// longer than a line.
func (s *screen) line(label string, parts ...string) {
	const separator = " · "
	width := s.sheet.Paragraph() - labelWidth
	var lines []string
	current := ""
	flush := func() { lines, current = append(lines, current), "" }
	for _, part := range slices.DeleteFunc(parts, func(p string) bool { return p == "" }) {
		if current != "" && runes(current+separator+part) > width {
			flush()
		} else if current != "" {
			current += separator
		}
		for i, word := range strings.Fields(part) {
			if i > 0 && runes(current+" "+word) > width {
				flush()
			} else if i > 0 {
				current += " "
			}
			current += word
		}
	}
	flush()
	for i, text := range lines {
		if i > 0 {
			label = ""
		}
		s.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, Visible(text)), " ") + "\n")
	}
}

// count writes "1 core", "2 cores".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

func (s *screen) cpu(c *profile.CPU, measured *profile.Measured) {
	if c == nil {
		s.line("CPU", "unknown")
		return
	}
	name := c.Model
	if name == "" {
		name = "unknown model"
	}
	s.line("CPU", name, count(c.Packages, "package")+", "+count(c.Cores, "core")+", "+count(c.Threads, "thread"),
		brief(c.ISA))
	for _, k := range c.Kinds {
		s.line("", fmt.Sprintf("%s: %s, %s", k.Name, count(k.Cores, "core"), count(k.Threads, "thread")))
	}
	if len(c.Offline) > 0 {
		s.line("", "offline: CPU "+profile.Ranges(c.Offline))
	}
	if len(c.Allowed) > 0 {
		s.line("", "this process may use CPU "+profile.Ranges(c.Allowed)+" alone")
	}
	if c.ComputeThreads > 0 && c.ComputeThreads < c.Cores {
		s.line("", fmt.Sprintf("compute with %s: %s", count(c.ComputeThreads, "thread"), c.ComputeThreadsWhy))
	}
	s.caches(c.Caches, measured)
}

// brief names the extensions that matter for kernels, leaving out what a later one implies.
func brief(isa []string) string {
	var short []string
	for _, x := range []struct{ flag, name, by string }{
		{"avx512f", "AVX-512", ""}, {"avx512_vnni", "VNNI", ""}, {"avx512_bf16", "BF16", ""}, {"avx512_fp16", "FP16", ""},
		{"amx_tile", "AMX", ""},
		{"avx2", "AVX2", ""}, {"avx", "AVX", "avx2"}, {"sse4_2", "SSE4.2", "avx"}, {"fma", "FMA", ""},
		{"avx_vnni", "AVX-VNNI", ""},
		{"neon", "NEON", ""}, {"asimddp", "DOTPROD", ""}, {"i8mm", "I8MM", ""}, {"sve", "SVE", "sve2"}, {"sve2", "SVE2", ""},
		{"vsx", "VSX", ""}, {"altivec", "ALTIVEC", "vsx"},
	} {
		if slices.Contains(isa, x.flag) && !slices.Contains(isa, x.by) {
			short = append(short, x.name)
		}
	}
	return strings.Join(short, " ")
}

// caches lists what is reported and what timing found, also of levels that the machine does not name.
func (s *screen) caches(caches []profile.Cache, measured *profile.Measured) {
	var rows [][]string
	row := func(cells ...string) { rows = append(rows, cells) }
	last := lastLevel(caches, measured)
	shown := map[int]bool{}
	for _, c := range caches {
		if c.Type == "instruction" {
			continue
		}
		felt := ""
		if !shown[c.Level] {
			felt = feltSize(measured, c.Level, last)
		}
		shown[c.Level] = true
		suffix := ""
		if c.Type == "data" {
			suffix = "d"
		}
		ways, size := "-", "unknown"
		if c.Ways > 0 {
			ways = strconv.Itoa(c.Ways)
		}
		if c.SizeBytes > 0 {
			size = c.SizeBytes.String()
		}
		row(fmt.Sprintf("L%d%s", c.Level, suffix), size, felt, ways, count(c.SharedBy, "thread"),
			"×"+strconv.Itoa(c.Instances))
	}
	for level := 1; level <= last; level++ {
		if felt := feltSize(measured, level, last); !shown[level] && measured != nil && felt != "unknown" {
			row(fmt.Sprintf("L%d", level), "unknown", felt, "-", "-", "")
		}
	}
	if last > 0 {
		s.cacheTable(rows)
	}
}

// cacheTable keeps its columns where the terminal has room for them.
func (s *screen) cacheTable(rows [][]string) {
	headers := []string{"", "reported", "measured", "ways", "shared by", "count"}
	if s.sheet.Columns > 0 && s.sheet.Columns < 64 {
		headers[0] = "cache"
		_ = Table(s, headers, rows) // into memory
		return
	}
	for _, r := range append([][]string{headers}, rows...) {
		line := fmt.Sprintf("  %-6s%-10s%-21s%-6s%-12s%s", r[0], r[1], r[2], r[3], r[4], r[5])
		s.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

// lastLevel is the level of the last cache, reported or timed; 0 where neither is known.
func lastLevel(caches []profile.Cache, measured *profile.Measured) (last int) {
	for _, c := range caches {
		last = max(last, c.Level)
	}
	if measured == nil {
		return last
	}
	for i, size := range []units.Bytes{measured.L1Bytes, measured.L2Bytes, measured.LLCBytes} {
		if size > 0 && (i < 2 || size > measured.L2Bytes) {
			last = max(last, i+1)
		}
	}
	return last
}

// feltSize is the measured capacity of a level with its interval: "8.7 MiB 7.7-9.9".
func feltSize(m *profile.Measured, level, last int) string {
	if m == nil {
		return "-"
	}
	size, interval := units.Bytes(0), (*profile.Interval)(nil)
	switch {
	case level == 1:
		size, interval = m.L1Bytes, m.L1Interval
	case level == last:
		size, interval = m.LLCBytes, m.LLCInterval
	case level == 2:
		size, interval = m.L2Bytes, m.L2Interval
	}
	if size == 0 {
		return "unknown"
	}
	if interval == nil {
		return size.String()
	}
	_, unit, _ := strings.Cut(size.String(), " ")
	one, err := units.ParseBytes("1 " + unit)
	if err != nil || one == 0 {
		return size.String()
	}
	scaled := func(b units.Bytes) string {
		return strings.TrimSuffix(strconv.FormatFloat(float64(b)/float64(one), 'f', 1, 64), ".0")
	}
	return fmt.Sprintf("%v (%s-%s)", size, scaled(interval.Low), scaled(interval.High))
}

func (s *screen) memory(m Machine) {
	if m.Memory == nil {
		s.line("Memory", "unknown")
		return
	}
	parts := []string{m.Memory.TotalBytes.String()}
	if m.Memory.AvailableBytes != nil {
		parts[0] += ", " + m.Memory.AvailableBytes.String() + " available"
	}
	switch _, unknown := m.Unknown["memory.limit_bytes"]; {
	case m.Memory.LimitBytes != nil:
		parts[0] += ", limit " + m.Memory.LimitBytes.String()
	case unknown:
		parts[0] += ", limit unknown"
	default:
		parts[0] += ", limit none"
	}
	if x := m.Measured; x != nil {
		if x.DRAMReadBytesPerS > 0 {
			parts = append(parts, fmt.Sprintf("%v read (%s)", x.DRAMReadBytesPerS, count(x.DRAMReadThreads, "thread")))
		}
		if x.DRAMLatencyS > 0 {
			parts = append(parts, seconds(x.DRAMLatencyS))
		}
	} else if m.Memory.BandwidthBytesPerS > 0 {
		parts = append(parts, m.Memory.BandwidthBytesPerS.String()+" theoretical")
	}
	s.line("Memory", parts...)
	s.fillable(m.Memory)
	s.pages(m)
}

// fillable says what one more process may fill, and which bound that is.
func (s *screen) fillable(m *profile.Memory) {
	b := m.Binding()
	if b == nil || m.FillableBytes == nil {
		return
	}
	text := fmt.Sprintf("fillable %v: %s, %v of %v held", *m.FillableBytes, b.Name, b.HeldBytes, b.LimitBytes)
	if b.Reclaimable > 0 {
		text += fmt.Sprintf(", %v of that can be dropped", b.Reclaimable)
	}
	s.line("", text)
}

func (s *screen) pages(m Machine) {
	mem := m.Memory
	var parts []string
	if mem.PageBytes > 0 {
		parts = append(parts, mem.PageBytes.String())
	}
	if mem.HugePageBytes > 0 {
		huge := "huge " + mem.HugePageBytes.String()
		if mem.TransparentHugePage != "" {
			huge += " (" + mem.TransparentHugePage + ")"
		}
		parts = append(parts, huge)
	}
	if mem.MaxMlockBytes != nil {
		parts = append(parts, "lockable "+mem.MaxMlockBytes.String())
	}
	if m.Measured != nil {
		if t, ok := m.Measured.Costs["page_fault"]; ok {
			parts = append(parts, "fault "+seconds(t))
		}
		if t, ok := m.Measured.Costs["huge_page_fault"]; ok {
			parts = append(parts, "huge fault "+seconds(t))
		}
	}
	if len(parts) > 0 {
		s.line("Pages", parts...)
	}
}

// seconds scales a short time: "92 ns", "1.3 µs".
func seconds(t float64) string {
	for _, u := range []struct {
		unit float64
		name string
	}{{1e-9, "ns"}, {1e-6, "µs"}, {1e-3, "ms"}} {
		if v := t / u.unit; v < 10 && u.name != "ns" {
			return fmt.Sprintf("%.1f %s", v, u.name)
		} else if v < 1000 {
			return fmt.Sprintf("%.0f %s", v, u.name)
		}
	}
	return fmt.Sprintf("%.1f s", t)
}

func (s *screen) nodes(nodes []profile.Node) {
	if len(nodes) < 2 {
		return
	}
	var sizes []units.Bytes
	far := 0
	for _, n := range nodes {
		sizes = append(sizes, n.MemoryBytes)
		for _, d := range n.Distances {
			far = max(far, d)
		}
	}
	least, most := slices.Min(sizes).String(), slices.Max(sizes).String()
	each := most + " each"
	if least != most {
		each = least + " to " + most
	}
	parts := []string{count(len(nodes), "node"), each}
	if far > 0 {
		parts = append(parts, fmt.Sprintf("distance up to %d", far))
	}
	s.line("NUMA", parts...)
}

func (s *screen) system(m Machine) {
	x := m.System
	var parts []string
	if x != nil {
		if x.Kernel != "" {
			parts = append(parts, "Linux "+x.Kernel)
		}
		if x.Hypervisor != "" {
			parts = append(parts, "under "+x.Hypervisor)
		}
		if x.CgroupV2 {
			parts = append(parts, "cgroup v2")
		}
		if x.CPUQuota != nil {
			parts = append(parts, fmt.Sprintf("CPU time limited to %.3g CPUs", *x.CPUQuota))
		}
		if x.PSI {
			parts = append(parts, "PSI")
		}
	}
	if m.Fingerprint != "" {
		parts = append(parts, "fingerprint "+m.Fingerprint)
	}
	if len(parts) > 0 {
		s.line("System", parts...)
	}
}

func (s *screen) gpus(m Machine) {
	for _, g := range m.GPUs {
		s.line("GPU", fmt.Sprintf("%s (sm_%s)", g.Name, strings.ReplaceAll(g.ComputeCapability, ".", "")),
			cardMemory(g),
			fmt.Sprintf("%v shared per block, %v per SM", g.SharedMemoryPerBlockBytes, g.SharedMemoryPerSMBytes),
			driver(g.DriverVersion))
		if g.H2DPinnedBytesPerS > 0 {
			s.line("", fmt.Sprintf("to card %v pinned, %v pageable", g.H2DPinnedBytesPerS, g.H2DPageableBytesPerS),
				fmt.Sprintf("back %v, %v", g.D2HPinnedBytesPerS, g.D2HPageableBytesPerS),
				fmt.Sprintf("copy on card %v", g.DeviceCopyBytesPerS), "launch "+seconds(g.LaunchLatencySeconds))
		}
	}
	unseen := slices.DeleteFunc(slices.Clone(m.Cards), func(c profile.Card) bool { return c.Visible })
	told := 0
	for i, c := range unseen {
		same := func(o profile.Card) bool { return o.PCIID == c.PCIID && o.Driver == c.Driver && alikeParts(o, c) }
		if slices.IndexFunc(unseen, same) < i {
			continue // told with the first of its kind
		}
		if slices.ContainsFunc(m.Warnings, func(w evidence.Warning) bool { return w.Text == c.Why }) {
			c.Why = ""
		}
		s.card(c, len(unseen[i:])-len(slices.DeleteFunc(slices.Clone(unseen[i:]), same)))
		told++
	}
	if why := m.Unknown["gpus"]; why != "" && told == 0 {
		s.line("GPU", "none: "+why)
	}
}

// heaps are a card's memories as Vulkan's driver tells them: "Vulkan heaps 16 GiB, 14 GiB to be had, and 24 GiB".
func heaps(list []profile.Heap) string {
	var all []string
	for _, h := range list {
		text := h.SizeBytes.String()
		if h.BudgetBytes != nil {
			text += fmt.Sprintf(", %v to be had", *h.BudgetBytes)
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return ""
	}
	return "Vulkan heaps " + strings.Join(all, ", and ")
}

// alikeParts is whether two cards are whole ones, or parts of the same size.
func alikeParts(a, b profile.Card) bool {
	if a.Part == "" || b.Part == "" {
		return a.Part == b.Part
	}
	return a.VRAMBytes == nil && b.VRAMBytes == nil ||
		a.VRAMBytes != nil && b.VRAMBytes != nil && *a.VRAMBytes == *b.VRAMBytes
}

// card is alike cards that vlmem's own card side cannot use.
func (s *screen) card(c profile.Card, alike int) {
	name := c.Name
	if c.PCIID != "" && !strings.Contains(name, c.PCIID) {
		name += " (" + c.PCIID + ")"
	}
	if alike > 1 {
		name = fmt.Sprintf("%d × %s", alike, name)
	}
	memory := ""
	switch {
	case c.Unified:
		memory = "shares the host's memory"
		if strings.HasPrefix(c.Source["unified_memory"], "assumed") {
			memory = "shares the host's memory, assumed"
		}
	case c.VRAMBytes != nil:
		memory = c.VRAMBytes.String()
		if strings.HasPrefix(c.Source["vram_bytes"], "assumed") {
			memory += " assumed"
		}
	}
	where := strings.TrimSpace("driver " + c.Driver)
	if c.Driver == "" {
		where = "no driver"
	}
	s.line("GPU", name, memory, where)
	if text := heaps(c.Heaps); text != "" {
		s.line("", text)
	}
	if c.Why != "" {
		s.line("", c.Why)
	}
}

// cardMemory is a card's memory with its bandwidth, where a chip that shares the host's tells one.
func cardMemory(g profile.GPU) string {
	text := g.MemoryBytes.String()
	if g.UnifiedMemory {
		text += " shared with the host"
	}
	if g.BandwidthBytesPerS > 0 {
		text += ", " + g.BandwidthBytesPerS.String()
	}
	return text
}

func driver(version string) string {
	if version == "" {
		return ""
	}
	return "driver " + version
}

const curveRows = 7

// curveColumns leaves room for the axis.
func (s *screen) curveColumns() int { return min(60, s.sheet.Paragraph()-10) }

// curveMarks draw the orders; where two meet, the later stands.
var curveMarks = []struct {
	order string
	mark  rune
}{{"line-per-page", '.'}, {"page-local", 'o'}, {"random", '+'}}

// curve draws latency over working set, both on logarithmic scales.
func (s *screen) curve(points []profile.LatencyPoint) {
	if len(points) == 0 {
		return
	}
	bySize := func(a, b profile.LatencyPoint) int { return cmp.Compare(a.Bytes, b.Bytes) }
	least, most := slices.MinFunc(points, bySize).Bytes, slices.MaxFunc(points, bySize).Bytes
	low, high := math.Inf(1), 0.0
	for _, p := range points {
		low, high = min(low, p.Seconds), max(high, p.Seconds)
	}
	if least <= 0 || least == most || !(low > 0 && low < high) { // nothing that a logarithm takes
		return
	}
	curveColumns := s.curveColumns()
	var rows [curveRows][]rune
	for i := range rows {
		rows[i] = []rune(strings.Repeat(" ", curveColumns))
	}
	at := func(v, from, to float64, cells int) int {
		return min(max(int(math.Round(math.Log(v/from)/math.Log(to/from)*float64(cells-1))), 0), cells-1)
	}
	for _, m := range curveMarks {
		for _, p := range points {
			if p.Order == m.order {
				rows[curveRows-1-at(p.Seconds, low, high, curveRows)][at(float64(p.Bytes), float64(least), float64(most),
					curveColumns)] = m.mark
			}
		}
	}
	s.line("Load", "latency by working set: + random, o page-local, . line per page")
	for i, row := range rows {
		value := low * math.Pow(high/low, float64(curveRows-1-i)/(curveRows-1))
		fmt.Fprintf(s, "%7s |%s\n", axis(value), strings.TrimRight(string(row), " "))
	}
	fmt.Fprintf(s, "%8s%-*s%s\n", "", curveColumns/2, least, fmt.Sprintf("%*s", curveColumns/2, most))
}

// axis is seconds with one decimal below 10 ns.
func axis(t float64) string {
	if t < 10e-9 {
		return fmt.Sprintf("%.1f ns", t*1e9)
	}
	return seconds(t)
}
