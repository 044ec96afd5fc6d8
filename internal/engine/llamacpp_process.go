package engine

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What a process holds beside its engine's buffers.
const (
	Process   = "process"   // anonymous memory: heap of code and vocabulary
	Libraries = "libraries" // pages of the program and its libraries
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

// ownLlama is what the process takes where there is no card: with one, the driver's part is larger than all this and
// not known. The whole file is mapped until all is loaded; then what lies before and behind the tensors that stay there
// is unmapped.
func (mem *Memory) ownLlama(m *profile.Model, p *Placement, o Options) {
	if o.Device == "gpu" {
		return
	}
	tokens := units.Bytes(m.Text.VocabSize)
	least := llamaHeap + bytesPerToken*tokens
	heap, pages := least+bytesPerMerge*tokens, llamaLibraries
	most, mostPages := heap+bytesPerMerge*tokens, 2*pages
	if o.promptCache {
		most, mostPages = most+2*serverHeap, mostPages+serverLibraries
	}
	mem.Own = []Item{
		{Name: Process, Where: "host", Bytes: heap, Low: least, High: most, Source: Measured, Backing: BackedAnonymous,
			Why: "heap of the program, and 263 B for each token of the vocabulary and its merge"},
		{Name: Libraries, Where: "host", Bytes: pages, Low: pages / 2, High: mostPages, Source: Measured, Backing: BackedFile,
			Why: "pages of the program and its libraries"},
	}
	mapped := p.Mapped()
	if read := p.inFile(); o.Llama.mapped() && mapped > 0 && read > mapped {
		mem.Own = append(mem.Own, Item{Name: FilePages, Where: "host", Bytes: read - mapped, High: read - mapped,
			Source: Derived, Backing: BackedFile, Why: "the file's other pages until its weights are copied, then unmapped"})
	}
}
