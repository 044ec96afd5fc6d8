package profile

import "github.com/vlmem/vlmem/internal/units"

// What a process takes of a card before it allocates anything: a CUDA context with its kernels. It differs by card,
// driver and build; PyTorch's own kernels and libraries come on top.
const (
	ContextBytes      = 256 * units.MiB // llama.cpp's on Pascal
	LeastContextBytes = 100 * units.MiB
	MostContextBytes  = 600 * units.MiB
)
