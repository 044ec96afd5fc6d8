package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// What advise writes for a server in any form of weights that the server takes, gate reads again, as that form. The
// repository's ending says it (w4a16), or the method by which the server quantises (int8_per_channel_weight_only).
func TestGateReadsEveryWrittenForm(t *testing.T) {
	for target, forms := range map[string]string{
		"vllm":   "fp8 fp8_per_tensor fp8_per_block mxfp8 int8 awq gptq int4 compressed-tensors nvfp4 modelopt_fp4 mxfp4",
		"sglang": "fp8 mxfp8 nf4 bitsandbytes int8 w8a8_int8 awq gptq int4 compressed-tensors nvfp4 modelopt_fp4 mxfp4",
	} {
		for form := range strings.FieldsSeq(forms) {
			path := filepath.Join(t.TempDir(), target+".yaml")
			where := []string{"--for", target, "--hardware", "i5-10210u+h100"}
			written := vlmem(t, nil, append([]string{"advise", "--model", "qwen3-vl-4b", "--precision", form, "-o", path},
				where...)...)
			if written.code != 0 {
				t.Errorf("advise --for %s --precision %s: %d, %s", target, form, written.code, written.stderr)
				continue
			}
			if read := vlmem(t, nil, append([]string{"gate", "--config", path}, where...)...); read.code != 0 {
				t.Errorf("gate of %s in %s: %d, %s", target, form, read.code, read.stderr)
			}
		}
	}
}
