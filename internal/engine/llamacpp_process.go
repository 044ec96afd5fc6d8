package engine

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What a process holds beside its engine's buffers.
const (
	Process   = "process"   // anonymous memory: heap of code and vocabulary
	Libraries = "libraries" // pages of the program and its libraries
	Driver    = "CUDA driver"
	Kernels   = "CUDA kernels" // their part on the host, once they run
)

// What a process of llama.cpp v0.5.0's libraries held beside its buffers, measured on a CPU with vocabularies of 1,000
// to 151,936 tokens, with and without as many merges: 0.1 MiB around these. A token is a string and its places in
// three tables, a merge its two parts in a fourth; texts longer than 15 bytes take more, a vocabulary without merges
// less.
const (
	llamaHeap       = 2300 * units.KiB
	bytesPerToken   = 153
	bytesPerMerge   = 110
	llamaLibraries  = 7900 * units.KiB
	serverHeap      = 8 * units.MiB // templates, threads that listen and the tower's library, at most as much again
	serverLibraries = 12 * units.MiB
)

// What CUDA adds to that, as the samples of llama-server v0.5.0 on an H200 show in three settings, to 3 MiB: what the
// driver takes before a model is loaded, 8 MiB of it shared with the card; what kernels and cuBLAS take once they run;
// and pages of the libraries, of which 154 MiB are there before. Other cards and drivers were not seen.
const (
	cudaDriver    = 152 * units.MiB
	cudaKernels   = 51 * units.MiB
	cudaLibraries = 179 * units.MiB
)

// ownLlama is what the process takes, with NVIDIA's cards what CUDA takes on the host; other backends were not seen.
func (mem *Memory) ownLlama(m *profile.Model, p *Placement, o Options) {
	if o.Device == "gpu" && o.Llama.backend() != "cuda" {
		mem.loadedPages(p, o)
		return
	}
	tokens := units.Bytes(m.Text.VocabSize)
	least := llamaHeap + bytesPerToken*tokens
	heap, pages := least+bytesPerMerge*tokens, llamaLibraries
	most, mostPages := heap+bytesPerMerge*tokens, 2*pages
	if o.promptCache {
		most, mostPages = most+2*serverHeap, mostPages+serverLibraries
	}
	own := func(name string, bytes, low, high units.Bytes, source, backing, why string) {
		mem.Own = append(mem.Own, Item{Name: name, Where: "host", Bytes: bytes, Low: low, High: high, Source: source,
			Backing: backing, Why: why})
	}
	own(Process, heap, least, most, Measured, BackedAnonymous,
		"heap of the program, and 263 B for each token of the vocabulary and its merge")
	if o.Device == "gpu" {
		const as = ", as on an H200"
		own(Libraries, cudaLibraries, cudaLibraries/2, 2*cudaLibraries, Assumed, BackedFile,
			"pages of the program and CUDA's libraries"+as)
		own(Driver, cudaDriver, cudaDriver/2, 2*cudaDriver, Assumed, BackedAnonymous, "CUDA's driver and context"+as)
		own(Kernels, cudaKernels, 0, 2*cudaKernels, Assumed, BackedAnonymous, "what CUDA adds once kernels run"+as)
	} else {
		own(Libraries, pages, pages/2, mostPages, Measured, BackedFile, "pages of the program and its libraries")
	}
	mem.loadedPages(p, o)
	for i := range mem.Items { // of what both sides read, an H200's driver counts all but the tower's as shared memory
		if it := &mem.Items[i]; o.Device == "gpu" && it.Where == "host" && (it.Name == Compute || it.Name == Output) {
			it.Backing = BackedPinned
		}
	}
}

// loadedPages are those of the file that are read while it is loaded and do not stay: the whole file is mapped and read
// until its weights are copied, to a card or into another layout; then what lies before and behind the tensors that
// stay there is unmapped. Metal reads weights from the pages themselves.
func (mem *Memory) loadedPages(p *Placement, o Options) {
	mapped, read := p.Mapped(), p.inFile()
	stays := p.Cards == 0 && mapped == 0 || p.Cards > 0 && o.Llama.backend() == "metal"
	if !o.Llama.mapped() || read <= mapped || stays {
		return
	}
	const why = "the file's other pages while it loads, until its weights are copied; the kernel may drop them"
	mem.Own = append(mem.Own, Item{Name: FilePages, Where: "host", Bytes: read - mapped, High: read - mapped,
		Source: Derived, Backing: BackedFile, Why: why})
}
