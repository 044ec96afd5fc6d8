package engine

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What a process of transformers 5.24.0 on a CPU held beside its model, with Python 3.11 and torch 2.15.0 as PyPI has
// it for Linux, built for CUDA 13.2: the heap after loading, and pages of libraries. Builds without CUDA hold less.
// glibc's malloc keeps of freed tensors below 32 MiB what lies between live ones: at the peak 0.60 to 0.86 of what the
// call then holds, over five calls of 568 to 3,000 tokens with images, by decoders of 2 and 28 layers.
const (
	torchHeap      = 425 * units.MiB
	torchLibraries = 342 * units.MiB
	torchKept      = 0.7
	mostTorchKept  = 1.2
)

// ownTransformers is what the process takes where there is no card, and what holds the weights. from_pretrained maps
// the files and casts tensor by tensor: what is stored in the type that is asked for is never copied, and its pages
// come when it is first used; what is cast is copied, while all of the files are mapped.
func (mem *Memory) ownTransformers(m *profile.Model, l torchLoad) {
	stored := m.DType
	if stored == "" {
		stored = profile.BF16 // as published
	}
	var weights, call units.Bytes
	for i := range mem.Items {
		it := &mem.Items[i]
		if it.Name != Weights && it.Name != VisionWeights {
			call += it.Bytes
			continue
		}
		if l.quant != nil {
			continue
		}
		weights += it.Bytes
		if stored == l.dtype {
			it.Backing, it.MappedBytes = BackedFile, it.Bytes
			it.Why += "; mapped from the file, pages that the kernel can drop"
		}
	}
	mem.Own = []Item{
		{Name: Process, Where: "host", Bytes: torchHeap + scaled(call, torchKept), Low: torchHeap / 2,
			High: torchHeap + scaled(call, mostTorchKept), Source: Measured, Backing: BackedAnonymous,
			Why: "Python, torch and transformers, and freed memory that is kept"},
		{Name: Libraries, Where: "host", Bytes: torchLibraries, Low: torchLibraries / 2, High: 3 * torchLibraries / 2,
			Source: Measured, Backing: BackedFile, Why: "pages of torch and the libraries that it loads"},
	}
	if l.quant == nil && stored != l.dtype {
		files := weights / units.Bytes(l.element) * units.Bytes(stored.Bytes())
		mem.Own = append(mem.Own, Item{Name: FilePages, Where: "host", Bytes: files, High: files, Source: Derived,
			Backing: BackedFile, Why: "the files while they are loaded; the kernel drops them when memory is wanted"})
	}
}
