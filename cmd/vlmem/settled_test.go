package main

import (
	"strings"
	"testing"
)

// What somebody types has an effect or is refused; what stands in settings is a default for every command, and passes
// where it has none.
func TestFlagsHaveAnEffectOrAreRefused(t *testing.T) {
	path := write(t, "t.csv", "id,lower,upper,size\n0,0,2,4096\n1,1,3,8192\n")
	tile := "bench tiles --shapes 8x8x8 --pairs 1"
	for _, c := range []struct {
		line, variable, value, said string
		code                        int
	}{
		{"bench --repeats 0 --hardware gtx-1080", "", "", "no effect on a replay", 2},
		{"bench --repeats 0 --trace " + path, "VLMEM_HARDWARE", "gtx-1080", "", 0},
		{"bench --repeats 0 --image 64x64 --trace " + path, "", "", "--image is of a model's request", 2},
		{"bench --repeats 0 --decode 4 --trace " + path, "", "", "--decode is of a model's request", 2},
		{"bench --repeats 0 --model qwen3-vl-2b --trace " + path, "", "", "--model is of a model's request", 2},
		{"bench --repeats 0 --trace " + path, "VLMEM_MODEL", "qwen3-vl-2b", "", 0},
		{tile + " --again", "", "", "goes with --gpu", 2},
		{tile + " --hardware i5-10210u", "", "", "do not go together", 2},
		{"bench tiles --shapes 8x8x8 --hardware i5-10210u --grid", "", "", "do not go together", 2},
		{"bench tiles --shapes 8x8x8 --hardware i5-10210u", "VLMEM_KERNEL", "go", "", 0},
		{tile, "VLMEM_HARDWARE", "i5-10210u", "", 0},
		{"estimate --engine vllm --ubatch 64", "", "", "ubatch", 2},
		{"estimate --engine vllm --hardware h100", "VLMEM_UBATCH", "64", "", 0},
	} {
		r := vlmem(t, []string{c.variable + "=" + c.value}, strings.Fields(c.line)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.said) {
			t.Errorf("%s with %s=%s: exit %d, %q, want %d, %q", c.line, c.variable, c.value, r.code, r.stderr, c.code, c.said)
		}
	}
}
