package observation

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// written is what Slurm 22.05.8 wrote of a step that touched 200 MiB of its own and every page of a mapped file of
// 26,077,552 bytes, sampled each second.
const written = `JobID|JobName|State|ExitCode|MaxRSS|MaxVMSize|ReqMem|Elapsed|NodeList
1|py.sbatch|COMPLETED|0:0|||1M|00:00:04|one
1.batch|batch|COMPLETED|0:0|252715008|257265664||00:00:04|one
`

func TestSacctsPeaksAreRead(t *testing.T) {
	list, err := DecodeSacct("sacct.txt", []byte(written+"2_1|a|RUNNING|0:0|||1M|1|two\n2_1.extern|extern|||12K||||two\n"+
		"2_1.0|serve|||1.50G||||two\n2_1.1|end|||3M||||two\n"))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for i, want := range []struct {
		step, node string
		peak       units.Bytes
	}{{"step 1.batch", "one", 252715008}, {"step 2_1.0", "two", 3 * units.GiB / 2}} {
		if o := list[i]; o.Command[0] != want.step || o.Machine.Name != want.node || o.Peak.Resident != want.peak {
			t.Errorf("%+v, want %+v", o, want)
		}
	}
	for text, want := range map[string]string{
		"JobID|State\n1|x\n":           "no column MaxRSS",
		"JobID|MaxRSS\n1|\n":           "no step has a MaxRSS",
		"JobID|MaxRSS\n1.batch|many\n": `f:2: MaxRSS "many"`,
		"JobID|MaxRSS\n1.batch|-1\n":   `f:2: MaxRSS "-1"`,
		"JobID|MaxRSS\n1.batch\n":      "wrong number of fields",
	} {
		if _, err := DecodeSacct("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// TestSacctsPeakIsHeldAgainstThePrediction: mapped weights count in full, as they do for Slurm, and nothing is learned.
func TestSacctsPeakIsHeldAgainstThePrediction(t *testing.T) {
	items := []engine.Item{{Name: engine.Weights, Where: "host", Backing: engine.BackedFile, Bytes: 20 << 20,
		MappedBytes: 26077552, Low: 20 << 20, High: 20 << 20},
		{Name: engine.Compute, Where: "host", Bytes: 200 << 20, Low: 190 << 20, High: 200 << 20}}
	for text, want := range map[string]string{written: ", as predicted",
		"JobID|MaxRSS\n3.0|1G\n": ", more than predicted", "JobID|MaxRSS\n3.0|1M\n": ", less than predicted"} {
		runs, err := DecodeSacct("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		mem := engine.Memory{Engine: "llama.cpp", Device: "cpu", Items: items}
		if n := Hold(runs, &mem); n != 1 || len(mem.Warnings) != 1 || !strings.Contains(mem.Warnings[0].Text, want) {
			t.Errorf("%d: %v, want %q", n, mem.Warnings, want)
		}
		if lessons := Learn(runs, "llama.cpp", "cpu"); lessons != nil {
			t.Errorf("%+v was learned", lessons)
		}
	}
}
