package profile

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vlmem/vlmem/internal/units"
)

// Every number of a model or a machine lies between zero and a limit, so that what is computed from accepted values
// fits 63 bits: nothing has to ask again whether a product overflowed. A limit stands about a hundredfold above the
// largest that exists, so that nobody meets it but by a slip of the pen, and low enough for the largest product that it
// enters. The two largest of a model are
//
//	parameters: layers · experts · 3 · width · expert width  <= 2^12 · 2^13 · 1.6 · 2^16 · 2^17 = 2^59, then at most
//	            mostParameters
//	cache:      positions · requests · bytes of a token     <= 2^25 · 2^10 · mostCacheBytes = 2^61
//	scores:     patches² · heads · 4 B                      <= mostPatches² · 2^10 · 4 = 2^56
//
// Numbers without a line here have the limit of their type: counts 2^20, sizes 2^50 B (1 PiB), rates 10^18.

// mostOf is the limit of the fields that differ from that of their type, by path; [] stands for any index.
var mostOf = map[string]float64{
	"text.hidden_size":                           1 << 16, // 12,288 in GPT-3, 18,432 in DeepSeek's MLPs
	"text.num_hidden_layers":                     mostLayers,
	"text.num_attention_heads":                   1 << 12,
	"text.num_key_value_heads":                   1 << 12,
	"text.head_dim":                              1 << 12, // 576 in DeepSeek's latent attention
	"text.vocab_size":                            1 << 24, // 262,208 in Gemma 3
	"text.max_position_embeddings":               1 << 25, // 10,485,760 in Llama 4 Scout
	"text.nextn_predict_layers":                  1 << 4,  // 3 in MiMo
	"text.moe.num_experts":                       1 << 12, // 384 in Kimi K2
	"text.moe.num_experts_per_tok":               1 << 12,
	"text.moe.moe_intermediate_size":             1 << 17,
	"text.variant.shared_experts":                1 << 12,
	"vision.depth":                               mostLayers,
	"vision.hidden_size":                         1 << 16, // 5,120 in InternViT-6B's kin
	"vision.out_hidden_size":                     1 << 16, // the width of the text
	"vision.num_heads":                           1 << 10,
	"vision.in_channels":                         1 << 8,
	"vision.patch_size":                          1 << 10,
	"vision.temporal_patch_size":                 1 << 6,
	"vision.image_size":                          mostImageSide,
	"vision.spatial_merge_size":                  1 << 4,
	"vision.num_position_embeddings":             1 << 24,
	"preprocess.min_pixels":                      1 << 28, // 16,777,216 in Qwen3-VL
	"preprocess.max_pixels":                      1 << 28,
	"preprocess.video_min_pixels":                1 << 28, // 25,165,824 over all frames
	"preprocess.video_max_pixels":                1 << 28,
	"cpu.caches[].level":                         8,
	"cpu.caches[].size_bytes":                    1 << 34, // 1,152 MiB of L3 in an EPYC 9684X
	"cpu.caches[].line_bytes":                    1 << 12,
	"gpus[].sm_count":                            1 << 16,
	"gpus[].shared_memory_per_block_bytes":       1 << 30, // 227 KiB in an H100
	"gpus[].shared_memory_per_block_optin_bytes": 1 << 30,
	"gpus[].shared_memory_per_sm_bytes":          1 << 30,
	"gpus[].shared_memory_reserved_bytes":        1 << 30,
	"text.variant.partial_rotary_factor":         1,
	"measured.l1_bytes":                          1 << 34,
	"measured.l2_bytes":                          1 << 34,
	"measured.llc_bytes":                         1 << 34,
}

const (
	mostNumber = 1 << 20
	mostSize   = 1 << 50
	mostRate   = 1e18
	// leastCache is the least of a cache's capacity that is given: eight lines.
	leastCache = 512
	// leastRate is the least of a rate that is given: a byte a second. Times are divided by rates.
	leastRate = 1
	// mostItems is the longest list: the processors of a machine.
	mostItems = 1 << 16
	// mostText is the longest name.
	mostText = 4096
)

// The limits of what follows from several numbers.
const (
	mostParameters = 1 << 47 // 140 trillion
	mostCacheBytes = 1 << 26 // of one token in fp32: 9 MiB in GPT-3, which shares no heads
	mostImageSide  = 1 << 14 // of an image in pixels: 1,540 in Pixtral
	mostPatches    = 1 << 22 // of one image: 65,536 in Qwen3-VL
)

// tooLarge says what is out of proportion in a model whose numbers are each within their limits.
func (m *Model) tooLarge() error {
	for _, x := range m.Modules() { // one by one: products of numbers that a list was made of may pass 63 bits
		if n := float64(x.Count) * float64(x.Out) * float64(x.In); min(x.Count, x.Out, x.In) < 0 || n > mostParameters {
			return fmt.Errorf("%s has %d x %d parameters, at most %d make sense", x.Name, x.Out, x.In, int64(mostParameters))
		}
	}
	if n := m.Parameters().Total(); n > mostParameters {
		return fmt.Errorf("%d parameters, at most %d make sense", n, int64(mostParameters))
	}
	if n := m.KVBytesPerToken(FP32); n > mostCacheBytes {
		return fmt.Errorf("a token takes %v of cache, at most %v make sense", n, units.Bytes(mostCacheBytes))
	}
	if m.TextOnly() {
		return nil
	}
	side := max(m.Vision.PatchSize, 1)
	if n := max(m.Preprocess.MaxPixels, m.Preprocess.VideoMaxPixels) / (side * side); n > mostPatches {
		return fmt.Errorf("preprocess.max_pixels makes %d patches, at most %d make sense", n, mostPatches)
	}
	return nil
}

// Bounded says where a number, a name or a list of a machine leaves its limits: what is read from a captured machine
// need not be complete, but it must be believable.
func (h *Hardware) Bounded() error {
	if faults := within("", *h); faults != nil {
		return errors.New(strings.Join(faults, "; "))
	}
	return nil
}

// within says of every number, name and list of a value where it leaves its limits.
func within(path string, value any) []string {
	var faults []string
	walk(path, reflect.ValueOf(value), func(path string, v reflect.Value) {
		if fault := outside(path, v); fault != "" {
			faults = append(faults, fault)
		}
	})
	return faults
}

// walk visits the plain values and the lists below v, with their paths in YAML. Maps are explanations, not quantities,
// but for costs_s.
func walk(path string, v reflect.Value, visit func(string, reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			walk(path, v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if name != "-" && name != "source" && name != "unknown" && name != "warnings" {
				walk(strings.TrimPrefix(path+"."+name, "."), v.Field(i), visit)
			}
		}
	case reflect.Slice:
		visit(path, v)
		for i := range min(v.Len(), mostItems) {
			walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i), visit)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			walk(path+"."+key.String(), v.MapIndex(key), visit)
		}
	default:
		visit(path, v)
	}
}

// outside says how one value leaves its limits, "" where it does not.
func outside(path string, v reflect.Value) string {
	switch v.Kind() {
	case reflect.Slice:
		if v.Len() > mostItems {
			return fmt.Sprintf("%s has %d entries, at most %d make sense", path, v.Len(), mostItems)
		}
	case reflect.String:
		return unprintable(path, v.String())
	case reflect.Int, reflect.Int64:
		if n := v.Int(); n > 0 && n < leastCache && isCache(path) {
			return fmt.Sprintf("%s is %d, at least %d make sense", path, n, leastCache)
		}
		return beyond(path, float64(v.Int()), limitOf(path, v), fmt.Sprint(v.Int()))
	case reflect.Float64:
		f := v.Float()
		if v.Type().Name() == "Rate" && f != 0 && f < leastRate || math.IsNaN(f) {
			return fmt.Sprintf("%s is %v, want a rate", path, f)
		}
		return beyond(path, f, limitOf(path, v), fmt.Sprint(f))
	}
	return ""
}

// isCache says of a path whether a cache's capacity stands there.
func isCache(path string) bool {
	switch anyIndex(path) {
	case "cpu.caches[].size_bytes", "measured.l1_bytes", "measured.l2_bytes", "measured.llc_bytes":
		return true
	}
	return false
}

func limitOf(path string, v reflect.Value) float64 {
	if most, ok := mostOf[anyIndex(path)]; ok {
		return most
	}
	switch {
	case v.Kind() == reflect.Float64:
		return mostRate
	case v.Type().Name() == "Bytes":
		return mostSize
	}
	return mostNumber
}

// anyIndex writes [] for every [n].
func anyIndex(path string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(path, "[")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("[]")
		_, path, _ = strings.Cut(after, "]")
	}
}

func beyond(path string, value, most float64, text string) string {
	switch {
	case value < 0:
		return fmt.Sprintf("%s is %s, want zero or more", path, text)
	case value > most:
		return fmt.Sprintf("%s is %s, at most %.0f make sense", path, text, most)
	}
	return ""
}

// unprintable refuses names that would break the line, or the terminal, that they are written to.
func unprintable(path, s string) string {
	switch {
	case len(s) > mostText:
		return fmt.Sprintf("%s is %d bytes long, at most %d make sense", path, len(s), mostText)
	case !utf8.ValidString(s):
		return path + " is no UTF-8"
	}
	for i, r := range s {
		if unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			return fmt.Sprintf("%s has a control character (%U) at byte %d", path, r, i)
		}
	}
	return ""
}
