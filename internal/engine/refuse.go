package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
)

// Refuse says whether the engine cannot run on a card; nil means that nothing is known against it.
//
// vLLM's documentation asks for compute capability 7.5, builds with nvcc from 12.8 leave 7.0 out (vllm CMakeLists.txt);
// SGLang's attention kernels (FlashInfer) start at 7.5; PyTorch's wheels for CUDA 12.6 still hold 5.0 and 6.0 code;
// ollama takes 5.0 upwards.
func (e *Engine) Refuse(g *profile.GPU) error {
	if g.Backend != "" {
		if e.Weights == GGUF {
			return nil
		}
		return &Refusal{Engine: e.Name,
			Reason: fmt.Sprintf("%s is reached through %s, and %s is written here for CUDA alone", g.Name, g.Backend,
				e.Name),
			Alternative: "llama.cpp (--for llama-server) or ollama with a GGUF of the same model runs on it"}
	}
	major, minor, err := g.Capability()
	if err != nil {
		return fmt.Errorf("card %s: compute capability %w", g.Name, err)
	}
	capability := 10*major + minor
	if capability >= e.Least {
		return nil
	}
	r := &Refusal{
		Engine: e.Name,
		Reason: fmt.Sprintf("%s has compute capability %s and %s needs %d.%d", g.Name, g.ComputeCapability,
			e.Name, e.Least/10, e.Least%10),
		Alternative: "llama.cpp (--for llama-server) or ollama with a GGUF of the same model runs on it",
	}
	if capability < 50 {
		r.Alternative = "run on the CPU: llama.cpp with --device cpu"
	}
	return r
}

// backendFacts is what llama.cpp needs to reach a card without CUDA, nil for other cards.
func backendFacts(g *profile.GPU) []string {
	switch g.Backend {
	case "rocm":
		return []string{"llama.cpp: build with -DGGML_HIP=ON for this card's gfx target, or with -DGGML_VULKAN=ON; " +
			"--list-devices shows it"}
	case "vulkan":
		return []string{"llama.cpp: build with -DGGML_VULKAN=ON, or take the Vulkan release; --list-devices shows the " +
			"card as Vulkan0"}
	}
	return nil
}

// PascalFacts is what a user of a Pascal card (compute capability 6.x) must know, a line each, nil for other cards.
func PascalFacts(g *profile.GPU) []string {
	major, _, err := g.Capability()
	if err != nil || major != 6 {
		return nil
	}
	return []string{
		"driver: stay on the 580 branch, the last that supports Pascal; the open kernel modules do not",
		"CUDA: 12.9 or older; CUDA 13 no longer compiles for Pascal",
		"PyTorch: the cu126 wheels alone still hold code for it (2.8 and later; an upstream proposal drops them in 2.15)",
		"data type: float16 weights with float32 arithmetic; bfloat16, FP8 and INT4 tensor-core kernels do not run",
		"attention: sdpa or eager; FlashAttention needs 8.0, and torch.compile's Triton 7.0",
		"llama.cpp: build with CUDA 12 and -DCMAKE_CUDA_ARCHITECTURES=61; -fa on works and saves the score matrices",
	}
}
