package engine

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// record is one row of a recording, by column.
type record map[string]string

func (r record) int(t *testing.T, column string) int {
	t.Helper()
	n, err := strconv.Atoi(r[column])
	if err != nil {
		t.Fatalf("column %s: %v", column, err)
	}
	return n
}

func (r record) float(t *testing.T, column string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(r[column], 64)
	if err != nil {
		t.Fatalf("column %s: %v", column, err)
	}
	return f
}

func records(t *testing.T, path string) []record {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	reader := csv.NewReader(bytes.NewReader(data))
	reader.Comment = '#'
	rows, err := reader.ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("%s: %d rows, %v", path, len(rows), err)
	}
	var list []record
	for _, row := range rows[1:] {
		r := record{}
		for i, column := range rows[0] {
			r[column] = row[i]
		}
		list = append(list, r)
	}
	return list
}

func model(t *testing.T, name string) *profile.Model {
	t.Helper()
	m, err := profiles.Model(name)
	if err != nil {
		t.Fatal(err)
	}
	return &m
}

// shared is a file of the shared data; the test is skipped where the data is absent.
func shared(t *testing.T, path ...string) string {
	t.Helper()
	root := os.Getenv("VLMEM_SHARED_DATA")
	if root == "" {
		root = "../../../shared/data"
	}
	file := filepath.Join(append([]string{root}, path...)...)
	if _, err := os.Stat(file); err != nil {
		t.Skipf("shared data is not here: %v", err)
	}
	return file
}

// standIn is the card of the recordings that tools/reference/llamacpp made with a stand-in: nothing is fused there.
var standIn = LlamaOptions{Build: LlamaVersion, unfused: true}

// Every buffer of every recorded context, to the byte: on the CPU, and split between a device and the host.
func TestLlamaBuffersAsRecorded(t *testing.T) {
	for _, r := range records(t, "testdata/llamacpp_contexts.csv") {
		m := model(t, r["model"])
		o := Options{
			Quant: r["weights_file"], Context: r.int(t, "ctx"), Batch: r.int(t, "batch"), UBatch: r.int(t, "ubatch"),
			Sequences: r.int(t, "parallel"), Unified: r["unified"] == "1", Outputs: r.int(t, "outputs"), KVType: r["kv_type"],
			FlashAttention: r["flash_attention"], Image: &Image{}, Llama: standIn,
		}
		o.Device = "cpu"
		onHost := estimate(t, "llama.cpp", m, o)
		o.Device = "gpu"
		split := estimate(t, "llama.cpp", m, o)
		for column, got := range map[string]units.Bytes{
			"model_bytes": onHost.WeightsBytes, "context_bytes": onHost.KVCacheBytes, "compute_bytes": onHost.ComputeBytes,
			"device_model_bytes": split.on("device", Weights), "host_model_bytes": split.on("host", Weights),
			"device_compute_bytes": split.on("device", Compute), "host_compute_bytes": split.on("host", Compute),
		} {
			if want := r.int(t, column); int(got) != want {
				t.Errorf("%v: %s is %d, want %d (%+.3f %%)", r, column, got, want, 100*(float64(got)/float64(want)-1))
			}
		}
	}
}

// Every buffer when only some layers lie on the card.
func TestLlamaOffloadAsRecorded(t *testing.T) {
	for _, r := range records(t, "testdata/llamacpp_offload.csv") {
		m := model(t, r["model"])
		mem := estimate(t, "llama.cpp", m, Options{
			Quant: r["weights_file"], Context: r.int(t, "ctx"), Batch: r.int(t, "batch"), UBatch: r.int(t, "ubatch"),
			Sequences: r.int(t, "parallel"), Unified: r["unified"] == "1", Outputs: r.int(t, "outputs"), KVType: r["kv_type"],
			FlashAttention: r["flash_attention"], Image: &Image{}, Device: "gpu", Llama: standIn, HostLayers: m.Text.Layers +
				1 - r.int(t, "gpu_layers"),
		})
		for column, got := range map[string]units.Bytes{
			"device_model_bytes": mem.on("device", Weights), "host_model_bytes": mem.on("host", Weights),
			"device_context_bytes": mem.on("device", KVCache), "host_context_bytes": mem.on("host", KVCache),
			"device_compute_bytes": mem.on("device", Compute), "host_compute_bytes": mem.on("host", Compute),
		} {
			if want := r.int(t, column); int(got) != want {
				t.Errorf("%v: %s is %d, want %d (%+.3f %%)", r, column, got, want, 100*(float64(got)/float64(want)-1))
			}
		}
	}
}

// on sums the items of one name in one place.
func (mem *Memory) on(where, name string) units.Bytes {
	var sum units.Bytes
	for _, i := range mem.Items {
		if i.Where == where && i.Name == name {
			sum += i.Bytes
		}
	}
	return sum
}

func estimate(t *testing.T, engine string, m *profile.Model, o Options) *Memory {
	t.Helper()
	mem, err := Estimate(engine, m, o)
	if err != nil {
		t.Fatalf("%s %s %+v: %v", engine, m.Name, o, err)
	}
	return mem
}

// Every projector's weights and buffers, to the byte.
func TestLlamaProjectorAsRecorded(t *testing.T) {
	for _, r := range records(t, "testdata/llamacpp_projector.csv") {
		m := model(t, r["model"])
		graph := func() *ggml.Graph {
			return projectorGraph(m, int64(r.int(t, "width")), int64(r.int(t, "height")), r["flash_attention"] == "on")
		}
		device, host := graph().ReserveSplit(cudaAlignment, hostAlignment)
		for column, got := range map[string]int64{
			"weights_bytes": int64(projectorBytes(&m.Vision, "f16")), "compute_bytes": graph().Reserve(hostAlignment),
			"device_compute_bytes": device, "host_compute_bytes": host,
		} {
			if want := r.int(t, column); int(got) != want {
				t.Errorf("%v: %s is %d, want %d", r, column, got, want)
			}
		}
	}
}

// Every recipe, with and without --pure, to the hundredth of a MiB that llama-quantize prints.
func TestRecipesAsRecorded(t *testing.T) {
	for _, r := range records(t, "testdata/llamacpp_quantize.csv") {
		recipe, err := recipeByName(r["quant"])
		if err != nil {
			t.Fatal(err)
		}
		recipe.mixed = r["pure"] == "0"
		got := float64(recipe.decoderBytes(&model(t, r["model"]).Text)) / (1 << 20)
		if want := r.float(t, "tensors_mib"); math.Abs(got-want) > 0.0051 {
			t.Errorf("%s %s pure %s: %.2f MiB, want %.2f", r["model"], r["quant"], r["pure"], got, want)
		}
	}
}

// The rows measured for Qwen3-VL-4B.
func TestLlamaShared(t *testing.T) {
	for _, r := range records(t, shared(t, "llamacpp", "qwen3vl_4b_cpu.csv")) {
		mem, err := Estimate("llama.cpp", model(t, r["model"]), Options{
			Quant: r["weights_file"], Context: r.int(t, "ctx"), UBatch: r.int(t, "ubatch"), KVType: r["kv_type"], Device: "cpu",
		})
		if err != nil {
			t.Fatal(err)
		}
		for column, got := range map[string]units.Bytes{"kv_mib": mem.KVCacheBytes, "compute_mib": mem.ComputeBytes,
			"output_mib": mem.OutputBytes} {
			if want := r.float(t, column); math.Abs(float64(got)/(1<<20)-want) > 0.0051 {
				t.Errorf("ctx %s ubatch %s: %s is %.3f MiB, want %.2f", r["ctx"], r["ubatch"], column, float64(got)/(1<<20), want)
			}
		}
	}
	for quant, want := range map[string]units.Bytes{"q8_0": 4274448384, "f16": 8045328384, "q4_0": 2263312384} {
		mem, err := Estimate("llama.cpp", model(t, "qwen3-vl-4b"), Options{Quant: quant, Context: 2048, Device: "cpu"})
		if err != nil || mem.WeightsBytes != want {
			t.Errorf("%s: %v bytes of weights, want %d (%v)", quant, mem, want, err)
		}
	}
}

// KV caches that logs of real runs printed.
func TestLlamaKVShared(t *testing.T) {
	data, err := os.ReadFile(shared(t, "qwen3vl_configs", "measured_llama_memory_points.json"))
	if err != nil {
		t.Fatal(err)
	}
	var points []struct {
		ID      string  `json:"id"`
		Context int     `json:"n_ctx"`
		KVType  string  `json:"kv_type"`
		KVMiB   float64 `json:"kv_MiB"`
		Output  float64 `json:"output_buffer_MiB"`
		MMProj  float64 `json:"mmproj_size_MiB"`
		Layers  int     `json:"n_layer"`
	}
	if err := json.Unmarshal(data, &points); err != nil {
		t.Fatal(err)
	}
	models := map[string]string{"ik30b": "qwen3-vl-30b-a3b", "lms": "qwen3-vl-8b"}
	found := 0
	for _, p := range points {
		name, ok := models[p.ID]
		if !ok {
			continue
		}
		found++
		m := model(t, name)
		mem, err := Estimate("llama.cpp", m, Options{Context: p.Context, KVType: p.KVType, Device: "cpu"})
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(mem.KVCacheBytes) / (1 << 20); got != p.KVMiB {
			t.Errorf("%s: KV %.2f MiB, want %.2f", p.ID, got, p.KVMiB)
		}
		if got := math.Round(float64(mem.OutputBytes)/(1<<20)*100) / 100; got != p.Output {
			t.Errorf("%s: output %.2f MiB, want %.2f", p.ID, got, p.Output)
		}
		if got := math.Round(float64(mem.VisionWeightsBytes)/(1<<20)*100) / 100; p.MMProj != 0 && got != p.MMProj {
			t.Errorf("%s: mmproj %.2f MiB, want %.2f", p.ID, got, p.MMProj)
		}
	}
	if found != len(models) {
		t.Errorf("%d of %d points found", found, len(models))
	}
}

// The large tower's buffer at 8,464 patches: N·(40C+16) bytes.
func TestProjectorLogged(t *testing.T) {
	mem, err := Estimate("llama.cpp", model(t, "qwen3-vl-8b"), Options{Context: 4096, Device: "cpu",
		Image: &Image{1472, 1472}})
	if err != nil || mem.VisionBytes != 390156544 { // logged in llama.cpp#18181
		t.Errorf("got %v, %v", mem, err)
	}
}

func TestLlamaRefuses(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Quant: "q9"}, "unknown quantisation"},
		{Options{KVType: "q3"}, "KV type"},
		{Options{KVType: "q8_0", FlashAttention: "off"}, "needs flash attention"},
		{Options{Device: "tpu"}, "device"},
		{Options{Context: -1}, "context -1"},
		{Options{FlashAttention: "maybe"}, "flash attention"},
		{Options{ProjectorQuant: "x"}, "projector"},
		{Options{Image: &Image{-1, 5}}, "above zero"},
		{Options{Image: &Image{1, 4000}}, "aspect ratio"},
	} {
		if _, err := Estimate("llama.cpp", model(t, "qwen3-vl-2b"), c.o); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want an error with %q", c.o, err, c.want)
		}
	}
}
