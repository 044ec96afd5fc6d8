package main

import (
	"strings"

	"github.com/vlmem/vlmem/internal/speed"
)

// classOf names the class of a row in which its errors are reported; the question may be absent.
func classOf(f map[string]string, q *speed.Query) string {
	h := strings.ToLower(f["hw_class"])
	if q != nil {
		return speed.ClassOf(*q)
	}
	return "refused " + h
}

// checkClass is the class in which the errors of a row are promised: by hardware, not by what the model makes of it.
func checkClass(r row) string {
	f, h := r.fields, strings.ToLower(r.fields["hw_class"])
	params, active := number(f["params_b"]), number(f["active_b"])
	experts := params > 0 && active > 0 && active < 0.8*params
	engine := f["engine"]
	switch {
	case number(f["n_cpu_moe"]) > 0:
		return "experts on the host"
	case strings.Contains(h, "pascal"):
		if strings.EqualFold(f["backend"], "cuda") {
			return "Pascal CUDA"
		}
		return "Pascal " + f["backend"]
	case strings.Contains(h, "laptop"):
		return "laptop CPU"
	case strings.HasPrefix(h, "cpu"):
		return "other CPU"
	case !nvidia(h):
		return "other cards"
	case strings.Contains(engine, "llamafile"):
		return "NVIDIA llamafile"
	case experts || params < 2.5 || !strings.Contains(engine, "llama") || number(f["concurrency"]) > 1 ||
		partial(f["ngl"]):
		return "NVIDIA other"
	}
	return "NVIDIA dense"
}

func nvidia(hardware string) bool {
	for _, arch := range []string{"volta", "turing", "ampere", "ada", "hopper", "blackwell"} {
		if strings.Contains(hardware, arch) {
			return true
		}
	}
	return false
}

func partial(ngl string) bool { return ngl != "" && ngl != "all" && ngl != "99" && ngl != "999" }
