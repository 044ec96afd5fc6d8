package main

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/speed"
)

// row is one measurement with the question that it answers. A rate of zero was not measured.
type row struct {
	id, source, unit, hardware, class string
	fields                            map[string]string
	decode, prefill                   float64 // tokens per second
	flagged                           bool
	cached                            bool // the prompt rate is none: above the card's peak, or too short to time
	impossible                        bool // above the card's peak, or experts that are none
	guessed                           bool // the row does not say where the layers lie, and the card has no room for all
	query                             *speed.Query
	refused                           string // why there is no question
}

//go:embed cards.csv
var cardsCSV []byte

//go:embed cpus.csv
var cpusCSV []byte

//go:embed shapes.csv
var shapesCSV []byte

// ownCSV is what this project measured: rows as a fit reads them, of a card that public rows hardly tell of.
//
//go:embed own.csv
var ownCSV []byte

const gib = 1 << 30

type card struct{ tflops, memory float64 }

type processor struct {
	pattern    *regexp.Regexp
	cores, ghz float64
}

type shape struct {
	pattern                                      *regexp.Regexp
	layers, kv, width, embedding, tied, ofActive float64
	params, active                               float64 // 10^9; 0: as the row says
}

// sheets are the data sheets that turn a name into rates.
type sheets struct {
	cards      map[string]card
	processors []processor
	shapes     []shape
}

func readSheets() (*sheets, error) {
	s := &sheets{cards: map[string]card{}}
	err := eachLine("cards.csv", cardsCSV, func(f []string, n []float64) error {
		s.cards[strings.ToLower(f[0])] = card{n[1] * 1e12, n[2] * gib}
		return nil
	})
	err = errors.Join(err, eachLine("cpus.csv", cpusCSV, func(f []string, n []float64) error {
		p, err := regexp.Compile("(?i)" + f[0])
		s.processors = append(s.processors, processor{p, n[1], n[2]})
		return err
	}))
	return s, errors.Join(err, eachLine("shapes.csv", shapesCSV, func(f []string, n []float64) error {
		p, err := regexp.Compile("(?i)" + f[0])
		s.shapes = append(s.shapes, shape{p, n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]})
		return err
	}))
}

func eachLine(name string, data []byte, do func(fields []string, numbers []float64) error) error {
	r := csv.NewReader(bytes.NewReader(data))
	r.Comment = '#'
	r.LazyQuotes = true
	lines, err := r.ReadAll()
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	for _, f := range lines[1:] {
		n := make([]float64, len(f))
		for i := 1; i < len(f); i++ {
			if n[i], err = strconv.ParseFloat(f[i], 64); err != nil {
				return fmt.Errorf("reading %s: %s: %w", name, f[0], err)
			}
		}
		if err := do(f, n); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return nil
}

// needed are the columns without which nothing can be predicted.
var needed = []string{"id", "engine", "backend", "hw", "hw_class", "bw_gbs", "model", "params_b", "quant"}

func readRows(path string, s *sheets) ([]row, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.rows(path, f)
}

func (s *sheets) rows(path string, from io.Reader) ([]row, error) {
	r := csv.NewReader(from)
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: reading the header: %w", path, err)
	}
	for _, n := range needed {
		if !slices.Contains(head, n) {
			return nil, fmt.Errorf("%s:1: no column %q; needed are %s", path, n, strings.Join(needed, ", "))
		}
	}
	var rows []row
	for {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			return misstated(rows), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fields := map[string]string{}
		for i, n := range head {
			fields[n] = strings.TrimSpace(line[i])
		}
		rows = append(rows, newRow(fields, s))
	}
}

// misstated marks all rows of a source's model of which one is impossible: the source states that model alike in all.
func misstated(rows []row) []row {
	models := map[[2]string]bool{}
	for _, r := range rows {
		if r.impossible {
			models[[2]string{r.unit, r.fields["model"]}] = true
		}
	}
	for i, r := range rows {
		rows[i].impossible = models[[2]string{r.unit, r.fields["model"]}]
	}
	return rows
}

func newRow(f map[string]string, s *sheets) row {
	r := row{id: f["id"], source: f["source"], unit: f["unit"], hardware: f["hw"], fields: f, flagged: f["flag"] != ""}
	r.decode, r.prefill = number(f["decode_tps"]), number(f["prefill_tps"])
	r.query, r.refused = s.question(f)
	r.cached = r.query != nil && (!r.query.Feasible(r.prefill) || r.query.Work.Prompt < 64)
	r.impossible = r.query != nil && (r.query.Impossible(r.decode) || number(f["n_cpu_moe"]) > 0 && !r.query.Work.Experts)
	r.class = classOf(f, r.query)
	r.guessed = r.query != nil && r.query.Card != nil && r.query.Host != nil && f["ngl"] == "" && f["n_cpu_moe"] == ""
	return r
}

func number(s string) float64 {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	return v
}

var active = regexp.MustCompile(`(?i)[-_ ]A([0-9.]+)B`)

// sized finds the size that a model's name states: what a row says of it was sometimes rounded or guessed.
var sized = regexp.MustCompile(`(?i)[-_ :]([0-9.]+)B\b`)

// embeddingBytes is a parameter of the embedding in files whose blocks take fewer bits: llama.cpp keeps it in q6_K.
const embeddingBytes = 6.5625 / 8

// sizes are a row's parameters, the active ones, and the bytes of its file. Where the row's file was estimated, from a
// rounded number of parameters, the published number stands in for it, and for the active ones of a row that says all.
func (s *sheets) sizes(f map[string]string, group string) (params, act, file float64) {
	params, act, file = number(f["params_b"])*1e9, number(f["active_b"])*1e9, number(f["file_gib"])*gib
	if m := active.FindStringSubmatch(f["model"]); m != nil && act >= 0.8*params {
		act = number(m[1]) * 1e9
	}
	estimated := strings.Contains(f["notes"], "file size estimated")
	if k, ok := s.known(f); ok && k.params > 0 && estimated && params > 0 && file > 0 {
		bytes, embedding := file/params, k.embedding*1e9
		switch all := act == 0 || act >= 0.8*params; {
		case k.active == 0:
			act = k.params * 1e9
		case all:
			act = k.active * 1e9
		}
		params = k.params * 1e9
		file = bytes*(params-embedding) + math.Max(bytes, embeddingBytes)*embedding
	} else if m := sized.FindStringSubmatch(f["model"]); m != nil && estimated {
		if b := number(m[1]) * 1e9; b > 0 && (params > 1.35*b || params < b/1.35) && params == act {
			file, params, act = file*b/params, b, b
		}
	}
	if params == 0 && file > 0 {
		params = file * 8 / speed.BitsOf(group)
	}
	if file == 0 {
		file = params * speed.BitsOf(group) / 8
	}
	if act == 0 || act > params {
		act = params
	}
	return params, act, file
}

// question turns a row into a query, or says why none can be asked.
func (s *sheets) question(f map[string]string) (*speed.Query, string) {
	q := &speed.Query{}
	q.Setting.Type = speed.TypeOf(f["quant"])
	q.Setting.Engine, q.Setting.Backend = engineOf(f["engine"]), backendOf(f)
	q.Setting.NoFlash = f["fa"] == "0"
	q.Setting.Old = f["date"] != "" && f["date"] < "2024-09" && q.Setting.Engine == "llama.cpp"
	q.Setting.QuantisedCache = strings.HasPrefix(f["kv"], "q")
	params, act, file := s.sizes(f, q.Setting.Type)
	if params == 0 {
		return nil, "neither parameters nor a file size"
	}
	if c := number(f["concurrency"]); c > 1 && q.Setting.Engine != "llama.cpp" {
		return nil, "more than one request at once"
	}
	cpu := strings.HasPrefix(strings.ToLower(f["hw_class"]), "cpu") || strings.EqualFold(f["backend"], "cpu")
	if cpu {
		q.Host = s.host(f)
		q.Setting.Backend = "cpu"
	} else if q.Card = s.card(f); q.Card == nil {
		return nil, "a card of unknown bandwidth"
	}
	q.Work = s.work(f, params, act, file, q)
	return q, ""
}

func engineOf(e string) string {
	e = strings.ToLower(e)
	switch {
	case strings.Contains(e, "llamafile"):
		return "llamafile"
	case strings.HasPrefix(e, "ik_llama"):
		return "ik_llama.cpp"
	case strings.Contains(e, "llama.cpp"), strings.Contains(e, "kobold"), strings.Contains(e, "lm studio"):
		return "llama.cpp"
	case strings.Contains(e, "ollama"):
		return "ollama"
	case strings.Contains(e, "vllm"):
		return "vllm"
	case strings.Contains(e, "transformers"):
		return "transformers"
	}
	return e
}

func backendOf(f map[string]string) string {
	b := strings.ToLower(f["backend"])
	switch {
	case strings.HasPrefix(b, "rocm/"), strings.HasSuffix(b, "/rocm"):
		return "rocm"
	case strings.HasPrefix(b, "metal"):
		return "metal"
	case b == "hip":
		return "rocm"
	case b == "":
		return map[bool]string{true: "rocm", false: "cuda"}[strings.HasPrefix(strings.ToLower(f["hw_class"]), "rdna")]
	}
	return b
}

func (s *sheets) card(f map[string]string) *speed.Card {
	c := &speed.Card{Arch: archOf(f), BandwidthBytesPS: number(f["bw_gbs"]) * 1e9, Count: int(number(f["n_gpu"]))}
	if c.BandwidthBytesPS == 0 {
		return nil
	}
	name := strings.ToLower(f["hw"])
	c.Laptop = strings.Contains(name, "laptop") || strings.Contains(name, "max-q") || strings.HasPrefix(name, "mx")
	sheet, ok := s.cards[name]
	for _, prefix := range []string{"nvidia ", "geforce ", "nvidia geforce ", "amd ", "radeon ", "amd radeon ", "apple ",
		"tesla "} {
		if !ok {
			sheet, ok = s.cards[strings.TrimPrefix(name, prefix)]
		}
	}
	if !ok { // the longest name that the row's begins with
		best := 0
		for n, k := range s.cards {
			if strings.Contains(name, n) && len(n) > best {
				sheet, best = k, len(n)
			}
		}
	}
	c.FlopsPS, c.MemoryBytes = sheet.tflops, sheet.memory
	return c
}

func archOf(f map[string]string) string {
	a, name := strings.ToLower(f["hw_class"]), strings.ToLower(f["hw"])
	switch {
	case a == "turing/volta", a == "turing":
		if strings.Contains(name, "gtx 16") || strings.HasPrefix(name, "t1") || strings.HasPrefix(name, "t5") ||
			strings.HasPrefix(name, "t6") || strings.Contains(name, "mx450") {
			return "turing16"
		}
		if strings.Contains(name, "v100") || strings.Contains(name, "titan v") {
			return "volta"
		}
		return "turing"
	case a == "pascal":
		if strings.Contains(name, "p100") {
			return "pascal60"
		}
		return "pascal61"
	}
	return a
}

func (s *sheets) host(f map[string]string) *speed.Host {
	a := strings.ToLower(f["hw_class"])
	h := &speed.Host{Class: "desktop", ISA: "avx2", BandwidthBytesPS: number(f["bw_gbs"]) * 1e9, Cores: 6, GHz: 3.4}
	guess := map[string]float64{"laptop": 5.5e10, "desktop": 5.1e10, "server": 1e11, "arm": 1.7e10}
	for _, c := range []string{"laptop", "desktop", "server", "arm"} {
		if strings.Contains(a, c) {
			h.Class = c
		}
	}
	for _, i := range []string{"sse", "avx", "avx2", "avx512"} {
		if strings.Contains(a, i) {
			h.ISA = i
		}
	}
	if h.Class == "arm" {
		h.ISA, h.Cores, h.GHz = "neon", 4, 2
	}
	if h.BandwidthBytesPS == 0 {
		h.BandwidthBytesPS = guess[h.Class]
	}
	for _, p := range s.processors {
		if p.pattern.MatchString(f["hw"]) {
			h.Cores, h.GHz = p.cores, p.ghz
			break
		}
	}
	return h
}

// beside is the host of a card of which a row says little.
func beside(f map[string]string) *speed.Host {
	h := &speed.Host{Class: "desktop", ISA: "avx2", BandwidthBytesPS: number(f["host_bw_gbs"]) * 1e9, Cores: 8, GHz: 4}
	if h.BandwidthBytesPS == 0 {
		h.BandwidthBytesPS = 6e10
	}
	if strings.Contains(strings.ToLower(f["hw"]), "laptop") {
		h.Class = "laptop"
	}
	return h
}

// known finds the shape of a row's model by its name.
func (s *sheets) known(f map[string]string) (shape, bool) {
	for _, name := range []string{f["model"], f["arch"]} {
		for _, k := range s.shapes {
			if k.pattern.MatchString(name) {
				return k, true
			}
		}
	}
	return shape{}, false
}

func (s *sheets) shapeOf(f map[string]string, params, act float64) shape {
	if k, ok := s.known(f); ok {
		return k
	}
	b := params / 1e9
	k := shape{layers: math.Round(20 * math.Pow(b, 0.32)), tied: 1, ofActive: 0.5}
	if act < 0.8*params {
		k.layers = math.Round(0.8 * k.layers)
	} else {
		k.ofActive = 0
	}
	k.kv, k.width = 4096*k.layers, 4096*k.layers
	if b > 6 {
		k.tied, k.embedding = 0, 0.5
	}
	return k
}

// work lays a model's bytes and operations where the row says that they lie.
func (s *sheets) work(f map[string]string, params, act, file float64, q *speed.Query) speed.Work {
	k := s.shapeOf(f, params, act)
	perParam := file / params
	w := speed.Work{Experts: act < 0.8*params, KVBytes: k.kv, ScoreOps: 4 * k.width, Depth: number(f["depth"])}
	w.Prompt, w.UBatch = number(f["prompt_tokens"]), number(f["ubatch"])
	if w.Prompt == 0 {
		w.Prompt = 512
	}
	if w.UBatch == 0 {
		w.UBatch = map[bool]float64{true: 512, false: 4096}[q.Setting.Engine != "vllm"]
	}
	if q.Setting.QuantisedCache {
		w.KVBytes *= 0.5
	}
	dense, experts := act, 0.0
	if w.Experts {
		experts = act * k.ofActive
		dense = act - experts
	}
	if k.tied == 0 {
		dense = math.Max(dense-k.embedding*1e9, 0.3*dense)
	}
	all := math.Max(0, params-dense) * perParam
	if !w.Experts {
		all = 0
	}
	onCard, expertsOnCard := s.shares(f, k, file, q)
	w.CardLayers, w.HostLayers = k.layers*onCard, k.layers*(1-onCard)
	w.CardBytes, w.HostBytes = dense*perParam*onCard, dense*perParam*(1-onCard)
	w.CardExpertBytes, w.HostExpertBytes = experts*perParam*expertsOnCard, experts*perParam*(1-expertsOnCard)
	w.CardExpertsAll, w.HostExpertsAll = all*expertsOnCard, all*(1-expertsOnCard)
	w.CardOps = 2 * (dense*onCard + experts*expertsOnCard)
	w.HostOps = 2 * (dense*(1-onCard) + experts*(1-expertsOnCard))
	if onCard < 1 || expertsOnCard < 1 {
		if q.Host == nil {
			q.Host = beside(f)
		}
	}
	return w
}

// shares says how much of the layers and of the experts lies on the card. Where a row does not say, what the card has
// no room for lies on the host, as llama.cpp and Ollama place it: of models with experts, the experts.
func (s *sheets) shares(f map[string]string, k shape, file float64, q *speed.Query) (layers, experts float64) {
	if q.Card == nil {
		return 0, 0
	}
	room := 0.97 * q.Card.MemoryBytes * math.Max(1, float64(q.Card.Count))
	fits := q.Card.MemoryBytes == 0 || file < room || q.Setting.Engine == "vllm" || q.Card.Arch == "apple" ||
		q.Card.Arch == "apu"
	n, err := strconv.ParseFloat(f["ngl"], 64)
	given := err == nil
	if m := number(f["n_cpu_moe"]); m > 0 {
		of := k.layers
		if given && k.pattern == nil && n > m {
			of = n - 1
		}
		return 1, math.Max(0, 1-m/of)
	}
	switch {
	case given && n < k.layers && (n < 0.8*k.layers || !fits):
		return n / (k.layers + 1), n / (k.layers + 1)
	case f["ngl"] != "all" && !given && !fits:
		rest := math.Max(0.05, room/file)
		if k.ofActive > 0 {
			return 1, rest
		}
		return rest, rest
	}
	return 1, 1
}
