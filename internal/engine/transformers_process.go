package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/rivals/glibc"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
)

// What a process of transformers 5.24.0 on a CPU held beside its model, with Python 3.11 and torch 2.15.0 as PyPI has
// it for Linux, built for CUDA 13.2: the heap after loading and what a call adds to it that is no tensor, and pages of
// libraries. Builds without CUDA hold less.
const (
	torchHeap      = 436 * units.MiB
	torchLibraries = 342 * units.MiB
)

// What a call leaves in the heap beside tensors, by the calls of malloc of three calls of that process: oneDNN keeps
// two objects of kernelObject bytes for every shape of a product in 16 bits, and hundreds of small ones, of which most
// find old holes and a few lie between tensors, where they keep their neighbours from joining. With six of them the
// anonymous memory of three calls of the 2B comes within 2.3 %, of two calls of a decoder of four layers within 4 %,
// and of a third 16 % above what it was; between none and forty all lie. importedMapping is the largest mapping that
// importing torch had freed.
const (
	kernelObject           = 296_880
	smallObject            = 48
	fewObjects, mostPinned = 6, 40
	importedMapping        = 1880 * units.KiB
	torchAlignment         = 64
	unknownPlaces          = 1.05 // where blocks lie differs by a few percent between two runs of one program
)

// freedAndKept is how much more glibc's heap holds at the most, of tensors that a call has freed and of what is beside
// them, than the tensors that are live at the most.
func freedAndKept(m *profile.Model, o workload.Options) (bytes, low, high units.Bytes, err error) {
	var list []units.Bytes
	for _, pinned := range []int{0, fewObjects, mostPinned} {
		o.Kernels = slices.Repeat([]int64{smallObject}, pinned)
		if o.DType != profile.FP32 { // whose products are MKL's
			o.Kernels = append(o.Kernels, kernelObject, kernelObject)
		}
		t, err := workload.Request(*m, o)
		if err != nil {
			return 0, 0, 0, fmt.Errorf("replaying a call in a heap: %w", err)
		}
		list = append(list, heldByHeap(t))
	}
	bytes = list[1]
	slices.Sort(list)
	return bytes, list[0], scaled(list[2], unknownPlaces), nil
}

// heldByHeap is the most that the heap holds of a trace, less the most that is live.
func heldByHeap(t *trace.Trace) units.Bytes {
	heap := glibc.New(int64(importedMapping))
	blocks := make([]glibc.Block, t.Slots)
	var resident, live, beside int64
	for _, o := range t.Operations() {
		switch {
		case o.Op == trace.OpMark:
			continue
		case o.Was != nil:
			heap.Free(blocks[o.Slot])
		default:
			align := int64(torchAlignment)
			if strings.HasSuffix(t.Tags[o.Tag], workload.Kernel) {
				align, beside = 1, beside+o.Size
			}
			blocks[o.Slot] = heap.Alloc(o.Size, align)
		}
		resident, live = max(resident, heap.Resident()), max(live, o.Live-beside)
	}
	return units.Bytes(max(resident-live, 0))
}

// ownTransformers is what the process takes where there is no card, and what holds the weights. from_pretrained maps
// the files and casts tensor by tensor: what is stored in the type that is asked for is never copied, and its pages
// come when it is first used; what is cast is copied, while all of the files are mapped.
func (mem *Memory) ownTransformers(m *profile.Model, l torchLoad, o workload.Options) error {
	kept, least, most, err := freedAndKept(unpacked(m), o)
	if err != nil {
		return err
	}
	stored := m.DType
	if stored == "" {
		stored = profile.BF16 // as published
	}
	var weights units.Bytes
	for i := range mem.Items {
		it := &mem.Items[i]
		if it.Name != Weights && it.Name != VisionWeights {
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
		{Name: Process, Where: "host", Bytes: torchHeap + kept, Low: torchHeap/2 + least, High: torchHeap + most,
			Source: Measured, Backing: BackedAnonymous,
			Why: fmt.Sprintf("Python, torch and transformers, and %s that glibc's heap keeps of freed tensors, by its rules",
				kept)},
		{Name: Libraries, Where: "host", Bytes: torchLibraries, Low: torchLibraries / 2, High: 3 * torchLibraries / 2,
			Source: Measured, Backing: BackedFile, Why: "pages of torch and the libraries that it loads"},
	}
	if l.quant == nil && stored != l.dtype {
		files := weights / units.Bytes(l.element) * units.Bytes(stored.Bytes())
		mem.Own = append(mem.Own, Item{Name: FilePages, Where: "host", Bytes: files, High: files, Source: Derived,
			Backing: BackedFile, Why: "the files while they are loaded; the kernel drops them when memory is wanted"})
	}
	return nil
}
