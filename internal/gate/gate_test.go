package gate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/verdict"
)

func TestVerdict(t *testing.T) {
	sure := Fits("a", advise.Standing{Verdict: "fits"})
	tight := Fits("b", advise.Standing{Verdict: "fits if …", Most: 5})
	not := Fits("c", advise.Standing{Verdict: "does not fit", Most: 9, Middle: 7})
	for _, c := range []struct {
		checks []Check
		want   verdict.Kind
		words  string
	}{
		{[]Check{sure}, 0, ""},
		{nil, 0, ""},
		{[]Check{sure, tight}, verdict.Unsure, "b: fits if …"},
		{[]Check{tight, not, sure}, verdict.Failed, "c: does not fit"},
	} {
		err := Result{Checks: c.checks}.Verdict()
		if verdict.KindOf(err) != c.want || err != nil && err.Error() != c.words {
			t.Errorf("%v: %v, want %v and %q", c.checks, err, c.want, c.words)
		}
	}
	if sure.Outcome != Holds || tight.Missing != 5 || not.Missing != 7 {
		t.Errorf("%+v %+v %+v", sure, tight, not)
	}
}

// A file without --mmproj is of a server that reads no images, and what a file says beside what is reckoned is named.
func TestFilesAreHeldAsTheyAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llama-server.args")
	for text, want := range map[string]struct {
		tower   bool
		outcome Outcome
		words   string
	}{
		"-c 8192":                      {false, Holds, "fits"},
		"-c 8192\n-mm tower-f16.gguf":  {true, Holds, "fits"},
		"-c 8192\n--lora adapter.gguf": {false, Unsure, "lora"},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Request{Config: []string{path}}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		r.AddFlags(flags)
		r.Given = flags.Changed
		r.Model, r.Engine, r.Hardware = "qwen3-vl-4b", "llama-server", "i5-10210u+gtx-1080"
		for flag, value := range map[string]string{"build": "v0.5.0", "cache-ram": "0"} {
			if err := flags.Set(flag, value); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Read(flags.Set); err != nil && !strings.Contains(err.Error(), "names no model") {
			t.Fatal(err)
		}
		checks, err := r.fits()
		if err != nil || checks[0].Outcome != want.outcome || !strings.Contains(checks[0].Found, want.words) {
			t.Errorf("%q: %+v, %v", text, checks, err)
		}
		if tower := r.ImageSize != "none"; tower != want.tower {
			t.Errorf("%q: a tower is reckoned: %v", text, tower)
		}
	}
}

// Devices of an args file are those of the machine, and another backend's rules than the card's own are not sure.
func TestDevicesAreThoseOfTheMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llama-server.args")
	for _, c := range []struct {
		device, hardware string
		outcome          Outcome
		err              string
	}{
		{"CUDA0", "i5-10210u+gtx-1080", Holds, ""}, {"Vulkan0", "i5-10210u+gtx-1080", Unsure, ""},
		{"CUDA0,CUDA1", "i5-10210u+gtx-1080", "", "names card 1"}, {"CUDA1", "i5-10210u+gtx-1080", "", "names card 1"},
		{"CUDA0", "i5-10210u", "", "has none"}, {"Vulkan0", "i5-10210u", "", "has none"},
		{"CUDA1", "i5-10210u+gtx-1080+gtx-1080", Holds, ""}, {"CUDA0,Vulkan1", "i5-10210u+gtx-1080", "", "together"},
		{"CUDA", "i5-10210u+gtx-1080", "", "unknown device"}, {"cuda0", "i5-10210u+gtx-1080", "", "unknown device"},
		{"CUDA1,CUDA0", "i5-10210u+mx150+gtx-1080", Unsure, ""}, {"CUDA1", "i5-10210u+mx150+gtx-1080", Holds, ""},
		{"CUDA0", "i5-10210u+mx150+gtx-1080", Broken, ""}, {"CUDA0,CUDA0", "i5-10210u+gtx-1080", "", "twice"},
		{"CUDA0,CUDA1", "i5-10210u+gtx-1080+gtx-1080", Holds, ""},
		{"ROCm0", "i5-10210u+gtx-1080", "", "does not reach"}, {"MTL0", "i5-10210u+gtx-1080", "", "does not reach"},
		{"ROCm0", "i5-10210u+rx-6800", Holds, ""}, {"CUDA0", "i5-10210u+rx-6800", "", "does not reach"},
	} {
		if err := os.WriteFile(path, []byte("-c 8192 --cache-ram 0 --device "+c.device), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Request{Config: []string{path}}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		r.AddFlags(flags)
		r.Given = func(flag string) bool { return flag == "model" || flags.Changed(flag) }
		r.Model, r.Engine, r.Hardware = "qwen3-vl-4b", "llama-server", c.hardware
		if err := r.Read(flags.Set); err != nil {
			t.Fatal(err)
		}
		checks, err := r.fits()
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) ||
			err == nil && checks[0].Outcome != c.outcome {
			t.Errorf("%+v: %+v, %v", c, checks, err)
		}
	}
}

// A server's settings hold where it starts: it refuses a share of a card that others have filled, and vLLM a context,
// its own as well, that its cache does not hold.
func TestServersMustStart(t *testing.T) {
	card, err := os.ReadFile("../../profiles/hardware/rtx-3090.yaml")
	if err != nil {
		t.Fatal(err)
	}
	with := func(free string) string {
		return strings.Replace(string(card), "    sm_count", "    free_bytes: "+free+"\n    sm_count", 1)
	}
	for _, c := range []struct {
		engine, free, ctx, share string
		outcome                  Outcome
		words                    string
	}{
		{"vllm", "23 GiB", "8192", "", Holds, ""}, {"vllm", "0", "8192", "", Broken, "end what fills the card"},
		{"vllm", "12 GiB", "8192", "", Broken, "a share of 0.46 surely starts"},
		{"vllm", "12 GiB", "8192", "0.46", Holds, ""},
		{"vllm", "23 GiB", "", "", Broken, "fewer than a context of 262144"}, {"sglang", "23 GiB", "", "", Holds, ""},
		{"sglang", "0", "8192", "", Broken, "nothing is left to the cache"},
		{"transformers", "0", "8192", "", Broken, "missing"},
	} {
		path := filepath.Join(t.TempDir(), "machine.yaml")
		if err := os.WriteFile(path, []byte(with(c.free)), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Request{}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		r.AddFlags(flags)
		r.Given = flags.Changed
		r.Model, r.Engine, r.Hardware = "qwen3-vl-2b", c.engine, path
		for flag, value := range map[string]string{"ctx": c.ctx, "utilization": c.share} {
			if err := flags.Set(flag, value); value != "" && err != nil {
				t.Fatal(err)
			}
		}
		checks, err := r.fits()
		if err != nil || checks[0].Outcome != c.outcome || !strings.Contains(checks[0].Found, c.words) {
			t.Errorf("%+v: %+v, %v", c, checks, err)
		}
	}
}

// A checkpoint that the file names is what the engine loads: its form counts beside --model of the same model; another
// model is reckoned as it is asked for, and said.
func TestTheFilesCheckpointCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vllm.yaml")
	for _, c := range []struct{ repository, model, quant, want, note string }{
		{"Qwen/Qwen3-VL-30B-A3B-Instruct-AWQ", "", "", "awq", ""},
		{"Qwen/Qwen3-VL-30B-A3B-Instruct-AWQ", "qwen3-vl-30b-a3b", "", "awq", ""},
		{"Qwen/Qwen3-VL-30B-A3B-Instruct-AWQ", "qwen3-vl-30b-a3b", "fp8", "fp8", ""},
		{"/data/mine", "qwen3-vl-30b-a3b", "", "", ""},
		{"Qwen/Qwen3-VL-30B-A3B-Instruct-AWQ", "qwen3-vl-4b", "", "", "is reckoned in its place"},
	} {
		text := "model: " + c.repository + "\nmax-model-len: 4096\nmax-num-seqs: 1\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := Request{Config: []string{path}}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		r.AddFlags(flags)
		flags.StringVar(&r.Model, "model", "", "")
		r.Given = flags.Changed
		r.Engine, r.Hardware = "vllm", "i5-10210u+rtx-3090"
		for flag, value := range map[string]string{"model": c.model, "quant": c.quant} {
			if value == "" {
				continue
			}
			if err := flags.Set(flag, value); err != nil {
				t.Fatal(err)
			}
		}
		err := r.Read(flags.Set)
		if err == nil {
			_, err = r.fits()
		}
		if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), c.note) {
			t.Errorf("%+v: %v, %v", c, err, r.Notes)
		}
		if err == nil && r.Quant != c.want {
			t.Errorf("%+v: reckoned in %q", c, r.Quant)
		}
	}
}
