package advise_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
)

// key is what people are told of one key of a configuration.
type key struct {
	unit    string // "" for names
	readers string // the programs that read it back, "" where it is for people alone
	meaning string
}

// keys describes every key by its path, in which PLACE is device or host and POOL a pool's name. The schema's
// descriptions and docs/configuration.md are made of it, and a key of the types that is missing here fails.
var keys = map[string]key{
	"schema":                                        {"", "all", "the version of this file's form"},
	"hardware.name":                                 {"", "verify, run", "the profile or the probed machine that everything rests on"},
	"hardware.cpu":                                  {"", "", "the processor"},
	"hardware.memory_bytes":                         {"bytes", "verify", "the bound of host memory that the budget rests on"},
	"hardware.gpu":                                  {"", "", "the card, left out where there is none"},
	"hardware.measured.l1_bytes":                    {"bytes", "verify", "what of the first cache one thread keeps, as timed"},
	"hardware.measured.l2_bytes":                    {"bytes", "verify", "the same of the second cache"},
	"hardware.measured.llc_bytes":                   {"bytes", "verify", "the same of the last cache"},
	"hardware.measured.dram_read_bytes_per_s":       {"bytes/s", "verify", "reading of host memory by all usable threads"},
	"model.name":                                    {"", "verify, run", "a built-in model or a file; verify --model names another place"},
	"model.parameters":                              {"count", "", "parameters of text and vision"},
	"model.weights":                                 {"", "", "the precision of the weights"},
	"model.kv_cache":                                {"", "", "the element type of the KV cache"},
	"model.activations":                             {"", "", "the element type of activations"},
	"budget.engine":                                 {"", "verify", "the program whose own estimate the items are; left out, they are of a program over vlmem's pools"},
	"budget.precision":                              {"", "verify, run", "the precision of the weights that was chosen or given"},
	"budget.context_tokens":                         {"tokens", "verify, run", "the longest sequence, prompt, images and answer together"},
	"budget.max_image_pixels":                       {"pixels", "", "the largest image before preprocessing; its sides are samples.image"},
	"budget.concurrency":                            {"requests", "verify, run", "requests served at once"},
	"budget.layers_on_device":                       {"layers", "", "decoder layers whose weights lie on the card"},
	"budget.layers_with_experts_on_host":            {"layers", "verify", "layers on the card whose experts lie in host memory; left out where there are none"},
	"budget.savings":                                {"", "verify", "settings that spare memory against the engine's defaults, each at a cost; left out where none is needed"},
	"budget.next_limit":                             {"", "", "what runs out first when limits grow"},
	"budget.PLACE.capacity_bytes":                   {"bytes", "verify, optimizer", "the memory, or the bound of it that leaves least; the items below and free add up to it. For the optimizer, a device here means that the pools lie on it"},
	"budget.PLACE.weights_bytes":                    {"bytes", "verify", "weights"},
	"budget.PLACE.kv_cache_bytes":                   {"bytes", "verify", "the KV cache at context_tokens and concurrency"},
	"budget.PLACE.vision_bytes":                     {"bytes", "verify", "the vision tower's working memory in a request at the limits"},
	"budget.PLACE.compute_bytes":                    {"bytes", "verify", "all other working memory of that request"},
	"budget.PLACE.pools_bytes":                      {"bytes", "verify", "what the pools' maxima hold beyond cache, vision and compute; 0 where an engine is named"},
	"budget.PLACE.pinned_bytes":                     {"bytes", "verify", "page-locked staging memory, which is the host's"},
	"budget.PLACE.other_bytes":                      {"bytes", "verify", "what the driver and the engine's process take, and what else ran, up to the next eighth of the capacity"},
	"budget.PLACE.free_bytes":                       {"bytes", "verify", "capacity less the items above"},
	"budget.PLACE.intervals.weights_bytes":          {"bytes", "", "the least and the most of weights_bytes"},
	"budget.PLACE.intervals.kv_cache_bytes":         {"bytes", "", "the least and the most of kv_cache_bytes"},
	"budget.PLACE.intervals.vision_bytes":           {"bytes", "verify", "the least and the most of vision_bytes"},
	"budget.PLACE.intervals.compute_bytes":          {"bytes", "verify", "the least and the most of compute_bytes"},
	"budget.PLACE.intervals.pools_bytes":            {"bytes", "", "the least and the most of pools_bytes"},
	"budget.PLACE.intervals.pinned_bytes":           {"bytes", "", "the least and the most of pinned_bytes"},
	"budget.PLACE.intervals.other_bytes":            {"bytes", "", "the least and the most of other_bytes"},
	"budget.PLACE.intervals.free_bytes":             {"bytes", "", "the least and the most of free_bytes"},
	"placement.PIECE.device_bytes":                  {"bytes", "verify, optimizer", "of the card; layers are the decoder with embeddings and head, kv_cache its cache, tower the weights of the vision tower"},
	"placement.PIECE.pinned_bytes":                  {"bytes", "verify, optimizer", "of host memory that is locked for the card"},
	"placement.PIECE.pageable_bytes":                {"bytes", "verify, optimizer", "of host memory that the system may move: allocated, or a file's pages"},
	"placement.PIECE.managed_bytes":                 {"bytes", "verify, optimizer", "that card and host address and the driver moves"},
	"placement.PIECE.saves_s":                       {"seconds", "", "of each token, that the card's part saves against all of the piece in host memory"},
	"speed.decode_tokens_per_s":                     {"tokens/s", "", "writing, with the cache as a first answer finds it"},
	"speed.decode_full_tokens_per_s":                {"tokens/s", "", "writing with the context full"},
	"speed.prefill_tokens_per_s":                    {"tokens/s", "", "reading the prompt"},
	"speed.image_s":                                 {"seconds", "", "encoding one image at the limit, left out for models without a tower"},
	"speed.first_token_s":                           {"seconds", "", "image, prompt and one step, with the model loaded"},
	"pools.POOL.policy":                             {"", "verify, optimizer", "vlmem, bestfit, buddy or fixed: how blocks are placed"},
	"pools.POOL.initial_bytes":                      {"bytes", "optimizer", "reserved when the pool opens"},
	"pools.POOL.max_bytes":                          {"bytes", "verify, optimizer", "the most it may reserve; 0 leaves its kind to the general pool"},
	"pools.POOL.grow_bytes":                         {"bytes", "optimizer", "reserved at a time when it grows"},
	"pools.POOL.alignment_bytes":                    {"bytes", "optimizer", "of every block; for fixed, the size of a block"},
	"tiles.cpu.kernel":                              {"", "", "the instructions that the tiles are for"},
	"tiles.cpu.threads":                             {"threads", "run", "threads that compute; a file without environment.threads has run set OMP_NUM_THREADS to it"},
	"tiles.cpu.mr":                                  {"rows", "", "rows of a register tile of a matrix product"},
	"tiles.cpu.nr":                                  {"columns", "", "columns of a register tile"},
	"tiles.cpu.kc":                                  {"elements", "", "depth of a block, kept in the first cache"},
	"tiles.cpu.mc":                                  {"rows", "", "rows of a block, kept in the second cache"},
	"tiles.cpu.nc":                                  {"columns", "", "columns of a panel, kept in the third cache"},
	"tiles.cpu.attention_block_q":                   {"rows", "", "queries of a tile of attention"},
	"tiles.cpu.attention_block_kv":                  {"rows", "", "keys and values of a tile of attention"},
	"tiles.gpu.attention[].head_dim":                {"elements", "", "the head dimension that this tile is for"},
	"tiles.gpu.attention[].block_q":                 {"rows", "", "queries of a tile"},
	"tiles.gpu.attention[].block_kv":                {"rows", "", "keys and values of a tile"},
	"tiles.gpu.attention[].head_slice":              {"elements", "", "of the head dimension held in shared memory at a time"},
	"tiles.gpu.attention[].threads":                 {"threads", "", "of a block"},
	"tiles.gpu.attention[].shared_memory_bytes":     {"bytes", "", "of a block"},
	"tiles.gpu.attention[].blocks_per_sm":           {"blocks", "", "that a multiprocessor holds at once"},
	"tiles.gpu.attention[].shared_memory_rule_tile": {"rows", "", "what the shared-memory rule would choose, to compare"},
	"pressure.low":                                  {"share", "watch, optimizer", "of a budget in use, below which pools grow ahead"},
	"pressure.high":                                 {"share", "watch, verify, optimizer", "of a budget in use, above which idle memory is given back and speculation refused"},
	"pressure.hysteresis":                           {"share", "watch, optimizer", "how far use must fall below a threshold before the level does"},
	"pressure.defragment_above":                     {"share", "optimizer", "external fragmentation above which a pool compacts before it grows"},
	"streams.compute":                               {"streams", "optimizer", "streams that compute; without a card, worker threads"},
	"streams.copy":                                  {"streams", "optimizer", "streams that copy"},
	"environment.threads":                           {"threads", "run", "run sets OMP_NUM_THREADS to it"},
	"environment.pytorch_alloc_conf":                {"", "run", "run sets PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF to it; left out where the default reserves as little"},
	"environment.cpus":                              {"", "run", "the CPUs that run keeps the program to, such as 0-7,16; left out where all are alike"},
	"environment.memory_policy":                     {"", "run", "prefer NODE or interleave NODES: where the system takes the program's memory from; left out with one memory node"},
	"samples.image":                                 {"pixels", "verify, run", "WIDTHxHEIGHT of the largest image, before preprocessing"},
	"samples.seeds":                                 {"count", "verify", "sequences that pools and thresholds were sized from; verify draws others"},
	"samples.mix":                                   {"", "verify, run", "the mix of requests they were drawn from, left out for evenly within the limits"},
}

// described is a key of the types, in their order.
type described struct {
	path string
	kind string
	key
}

// describedKeys walks the types and gives every key once: the two places are one, and so are the pools.
func describedKeys() []described {
	var list []described
	var walk func(path string, t reflect.Type)
	walk = func(path string, t reflect.Type) {
		s := schemaOf(t)
		switch {
		case t.Kind() == reflect.Pointer:
			walk(path, t.Elem())
		case t.Kind() == reflect.Slice:
			walk(path+"[]", t.Elem())
		case s.Type == "object":
			for i := range t.NumField() {
				if name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
					walk(path+"."+name, t.Field(i).Type)
				}
			}
		default:
			path = general(strings.TrimPrefix(path, "."))
			if !slices.ContainsFunc(list, func(d described) bool { return d.path == path }) {
				kind := s.Type
				if t == reflect.TypeFor[advise.Range]() {
					kind = "pair of integers"
				}
				list = append(list, described{path, kind, keys[path]})
			}
		}
	}
	walk("", reflect.TypeFor[advise.Advice]())
	return list
}

// general is a path with PLACE and POOL for the names of places and pools.
func general(path string) string {
	parts := strings.Split(path, ".")
	if len(parts) > 2 && parts[0] == "budget" {
		parts[1] = "PLACE"
	}
	if len(parts) > 2 && parts[0] == "pools" {
		parts[1] = "POOL"
	}
	if len(parts) > 2 && parts[0] == "placement" {
		parts[1] = "PIECE"
	}
	return strings.Join(parts, ".")
}

func TestEveryKeyIsDescribed(t *testing.T) {
	list := describedKeys()
	for _, d := range list {
		if d.meaning == "" {
			t.Errorf("%s: a key of the types without a line in keys", d.path)
		}
		counted := d.kind != "string"
		if counted && d.unit == "" || strings.HasSuffix(d.path, "_bytes") && d.unit != "bytes" {
			t.Errorf("%s: a number needs its unit, got %q", d.path, d.unit)
		}
	}
	if len(list) != len(keys) {
		t.Errorf("%d keys are described, the types have %d", len(keys), len(list))
	}
}

// TestConfigurationPage holds docs/configuration.md to the types.
func TestConfigurationPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- keys: go test ./internal/advise -update -->\n", "<!-- end of keys -->"
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has lost its marks %q and %q", path, begin, end)
	}
	want := before + begin + keyTables() + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s is not of the types; run go test ./internal/advise -update", path)
	}
}

// keyTables is one table for each top key.
func keyTables() string {
	var b strings.Builder
	top := ""
	for _, d := range describedKeys() {
		if part, _, _ := strings.Cut(d.path, "."); part != top {
			top = part
			fmt.Fprintf(&b, "\n### %s\n\n| key | type | unit | read by | is |\n|---|---|---|---|---|\n", top)
		}
		readers := d.readers
		if readers == "" {
			readers = "people"
		}
		unit := d.unit
		if unit == "" {
			unit = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", d.path, d.kind, unit, readers, d.meaning)
	}
	return b.String() + "\n"
}

// TestNewerMinorIsReadWithAWarning: a later vlmem adds keys; this one reads what it knows and says so.
func TestNewerMinorIsReadWithAWarning(t *testing.T) {
	plain := func(schema, more string) []byte {
		return []byte("schema: " + schema + "\nmodel:\n  name: qwen3-vl-4b\n" + more)
	}
	a, err := advise.Decode("c.yaml", plain("vlmem/v1.2", "  colour: blue\nlater: {}\n"))
	if err != nil || a.Model.Name.Value != "qwen3-vl-4b" || len(a.Warnings) != 1 ||
		a.Warnings[0].Code != advise.NewerSchema {
		t.Errorf("a newer minor: %+v, %v", a, err)
	}
	if a, err := advise.Decode("c.yaml", plain("vlmem/v1", "")); err != nil || len(a.Warnings) != 0 {
		t.Errorf("this version: %v, %v", a.Warnings, err)
	}
	for _, schema := range []string{"vlmem/v1.0", "vlmem/v1.02", "vlmem/v1.x", "vlmem/v2", "vlmem/v2.1", "vlmem/v10",
		`""`} {
		if _, err := advise.Decode("c.yaml", plain(schema, "")); err == nil {
			t.Errorf("schema %s is read", schema)
		}
	}
	if _, err := advise.Decode("c.yaml", plain("vlmem/v1", "  colour: blue\n")); err == nil {
		t.Error("an unknown key of this version is read")
	}
	if _, err := advise.Decode("c.yaml", plain("vlmem/v1.2", "  parameters: many\n")); err == nil {
		t.Error("a known key of another type is read")
	}
}

// TestAFormerNameIsRead: configurations outlive the vlmem that wrote them.
func TestAFormerNameIsRead(t *testing.T) {
	a, err := advise.Decode("c.yaml", []byte("schema: vlmem/v1\nmodel:\n  name: qwen3-vl-4b\ntiles:\n  gpu:\n    "+
		"attention:\n    - seed_rule_tile: 64\n"))
	if err != nil || a.Tiles.GPU.Attention[0].SharedRule.Value != 64 {
		t.Errorf("%+v, %v", a.Tiles.GPU, err)
	}
}
