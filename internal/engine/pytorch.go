package engine

import (
	"strings"
)

// PyTorch is the allocator under every program that uses it: it has settings, and the memory is the program's. Its
// wheels for CUDA 12.6 still hold code of compute capability 5.0.
var pytorch = Engine{
	Name: "pytorch", Product: "PyTorch", Version: "2.9 and later", Page: "Settings", Least: 50, CPU: true,
	Write: writePyTorch, Allocator: true,
}

// The size of segments has a key since 2.11; releases before it refuse the whole variable.
const pytorchSegmentKey, pytorchSegmentVersion = "large_segment_size_mb", "2.11 and later"

func writePyTorch(s Settings) (*Bundle, error) {
	conf, why := s.AllocConf, "as replayed"
	if conf == "" {
		conf, why = "expandable_segments:True",
			"assumed: segments that grow leave no holes between them; replay your own trace to be sure"
	}
	if strings.Contains(conf, pytorchSegmentKey) {
		s.spelled = "PyTorch " + pytorchSegmentVersion
	}
	var env lines
	env.add("PYTORCH_ALLOC_CONF", conf, "%s", why)
	env.add("PYTORCH_CUDA_ALLOC_CONF", conf, "the name before 2.9, which vLLM still looks at")
	env.add("OMP_NUM_THREADS", s.Threads, "%s; left out, PyTorch counts the CPUs of its affinity, and no quota",
		s.ThreadsWhy)
	b := &Bundle{Version: s.spelled, settings: env, Files: []File{{"pytorch.env", envText(s.spelled, env)}}}
	b.Use = []string{"set -a; . ./pytorch.env; set +a; python …"}
	if strings.Contains(conf, "expandable_segments:True") {
		b.Notes = append(b.Notes, "expandable segments cannot be shared by CUDA IPC: custom all-reduce across cards fails "+
			"with them (vllm#42609)")
	}
	return b, nil
}
