package profile_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// The sizes that transformers' image and video processors give, from their sources; 11,844 tokens of a 12-megapixel
// photo also stand in transformers#45753.
func TestGrids(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		width, height, frames       int
		resizedWidth, resizedHeight int
		patches, tokens             int
		pixelBytes                  int64
	}{
		{640, 480, 0, 640, 480, 1200, 300, 1200 * 6144},
		{1024, 1024, 0, 1024, 1024, 4096, 1024, 4096 * 6144},
		{1280, 720, 0, 1280, 704, 3520, 880, 3520 * 6144}, // 22.5 rounds to 22: half to even
		{1920, 1080, 0, 1920, 1088, 8160, 2040, 8160 * 6144},
		{3840, 2160, 0, 3840, 2176, 32640, 8160, 32640 * 6144},
		{4032, 3024, 0, 4032, 3008, 47376, 11844, 47376 * 6144},
		{32, 32, 0, 256, 256, 256, 64, 256 * 6144},              // enlarged to the least area
		{8192, 8192, 0, 4096, 4096, 65536, 16384, 65536 * 6144}, // shrunk to the largest
		{1280, 720, 20, 1280, 704, 35200, 8800, 35200 * 6144},   // ten seconds at two frames a second
		{1280, 720, 19, 1280, 704, 35200, 8800, 35200 * 6144},   // an odd number of frames is padded
	} {
		g, err := m.ImageGrid(c.width, c.height)
		if c.frames > 0 {
			g, err = m.VideoGrid(c.width, c.height, c.frames)
		}
		if err != nil {
			t.Errorf("%dx%d: %v", c.width, c.height, err)
			continue
		}
		if g.Width != c.resizedWidth || g.Height != c.resizedHeight || g.Patches != c.patches || g.Tokens != c.tokens ||
			g.PixelBytes() != c.pixelBytes {
			t.Errorf("%dx%d, %d frames: got %+v, want %+v", c.width, c.height, c.frames, g, c)
		}
	}
}

func TestGridsRefuse(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	for want, size := range map[string][2]int{"aspect ratio": {6432, 32}, "above zero": {0, 480}} {
		if _, err := m.ImageGrid(size[0], size[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one about %s", size, err, want)
		}
	}
	if _, err := m.VideoGrid(640, 480, 0); err == nil {
		t.Error("a video without frames was accepted")
	}
}

func TestSampledFrames(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	for seconds, want := range map[float64]int{0.1: 4, 10: 20, 10.5: 22, 3600: 768} {
		if got := m.SampledFrames(seconds); got != want {
			t.Errorf("%v s: %d frames, want %d", seconds, got, want)
		}
	}
}

// decoderOf are decoders of the classes whose processors are held.
var decoderOf = map[string]string{"qwen3_vl": "qwen3_vl_text", "qwen2_5_vl": "qwen2_5_vl_text", "glm46v": "glm4v_text",
	"gemma4": "gemma4_text"}

// The grids of 131 images and videos for each processor, as transformers 5.24's own make them
// (tools/reference/models/count.py): odd counts of frames, and sides below a token's, among them.
func TestGridsAsTheProcessorsMakeThem(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "grids.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 200 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	models := map[string]profile.Model{}
	for _, kind := range []string{"qwen3_vl", "qwen2_5_vl", "glm46v", "gemma4"} {
		config := `{"model_type": "` + kind + `", "vision_config": {}, "text_config": {"model_type": "` +
			decoderOf[kind] + `"}}`
		if models[kind], err = profile.DecodeHuggingFace("config.json", []byte(config)); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range rows {
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(row[i+1])
		}
		m := models[row[0]]
		g, err := m.ImageGrid(n[1], n[2])
		if n[0] > 0 {
			g, err = m.VideoGrid(n[1], n[2], n[0])
		}
		if refused := n[3] < 0; refused != (err != nil) || !refused && g.Patches != n[3] {
			t.Errorf("%v: %d patches, %v", row, g.Patches, err)
		}
	}
}
