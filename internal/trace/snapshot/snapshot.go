// Package snapshot holds what PyTorch's CUDA allocator recorded about itself, with the addresses it gave.
//
// Two views of one recording:
//
//   - A Snapshot is the file that torch.cuda.memory._dump_snapshot writes: the segments and blocks at the END of the
//     recording, and for every device a ring buffer of entries that may have lost its beginning. Read decodes the
//     pickle without executing any of it, Write encodes one that pytorch.org/memory_viz opens.
//   - A Recording is one device's share, turned round so that it can be replayed: the segments and live blocks at its
//     START, then the entries. Snapshot.Recordings derives it by undoing the entries from the end; flat CSV recordings
//     (ReadCSV) state the start themselves.
//
// Sizes of alloc and free entries are what the program requested; sizes of segment entries are real. Streams are the
// raw handles that CUDA uses, 0 for the default one. Field names follow torch/csrc/cuda/memory_snapshot.cpp
// (pytorch/pytorch).
package snapshot

// Action is what an entry of the ring buffer records.
type Action uint8

// The actions that PyTorch records. Other covers those that newer versions add and that move no memory.
const (
	Other Action = iota
	Alloc
	FreeRequested
	FreeCompleted
	SegmentAlloc
	SegmentFree
	SegmentMap
	SegmentUnmap
	OutOfMemory
	Mark // snapshot
	UserDefined
	actions
)

var actionNames = [actions]string{"other", "alloc", "free_requested", "free_completed", "segment_alloc", "segment_free",
	"segment_map", "segment_unmap", "oom", "snapshot", "user_defined"}

// String is the action as PyTorch spells it.
func (a Action) String() string { return actionNames[a] }

// actionNamed finds the action of a name; one that is not known is Other.
func actionNamed(name string) Action {
	for a, n := range actionNames {
		if n == name {
			return Action(a)
		}
	}
	return Other
}

// State is what a block is at the end of the recording.
type State uint8

// The states of a block.
const (
	Inactive    State = iota
	Allocated         // active_allocated
	PendingFree       // active_pending_free: freed by the program, another stream may still use it

	unknownState // while decoding
)

var stateNames = [...]string{"inactive", "active_allocated", "active_pending_free"}

// String is the state as PyTorch spells it.
func (s State) String() string { return stateNames[s] }

// NoStack marks an entry, block or segment whose call stack was not recorded.
const NoStack int32 = -1

// UnknownFree is the Addr of an OutOfMemory entry that does not say what the device had free.
const UnknownFree int64 = -1

// PoolID names a private pool (CUDA graphs, MemPool); the zero value is the default pool.
type PoolID [2]int64

// Frame is one line of a call stack.
type Frame struct {
	Name, Filename string
	Line           int64 // negative for code that has none
}

// Entry is one record of the ring buffer.
type Entry struct {
	Addr   int64 // where; for OutOfMemory the bytes the device had free
	Size   int64 // bytes: requested for blocks, real for segments
	Stream int64 // raw handle
	TimeUs int64
	Note   *Note // nil where nothing of it is recorded
	Stack  int32 // index into Snapshot.Stacks, or NoStack
	Action Action
}

// Note is what few entries say and what many say alike, so that they share one. Fields are nil where not recorded.
type Note struct {
	CompileContext *string
	UserMetadata   *string
	Pool           *PoolID
}

// Pool is the pool that the entry names, nil where it names none.
func (e *Entry) Pool() *PoolID {
	if e.Note == nil {
		return nil
	}
	return e.Note.Pool
}

// Block is a piece of a segment, in bytes.
type Block struct {
	Address, Size, Requested int64
	Stack                    int32
	State                    State
}

// Segment is memory taken from the driver, or one mapped run of an expandable segment.
type Segment struct {
	Address, TotalSize                       int64
	AllocatedSize, ActiveSize, RequestedSize int64
	Stream                                   int64
	Pool                                     PoolID
	Blocks                                   []Block // in address order, without gaps
	Device                                   int32
	Stack                                    int32
	Small                                    bool // segment_type "small"
	Expandable                               bool
}

// Settings are the allocator's, as far as the recording says them.
type Settings struct {
	Conf         string // PYTORCH_CUDA_ALLOC_CONF
	MaxSplitSize int64  // bytes, -1 for unlimited
	GCThreshold  float64
	Expandable   bool
	Roundup      [16]int64 // roundup_power2_divisions for 1 MiB, 2 MiB, 4 MiB, …
	Other        []Setting // that do not bear on placement, in file order
}

// Setting is one of the allocator's settings: a number, or a boolean as 0 or 1.
type Setting struct {
	Key    string
	Number int64
	Bool   bool // Number is a boolean
}

// Annotation is a range of the program that the profiler named.
type Annotation struct {
	Stage, Name string // Stage is START or END
	Device      int64
	TimeUs      int64
}

// Snapshot is a whole file.
type Snapshot struct {
	Segments    []Segment
	Traces      [][]Entry // by device
	Settings    *Settings // nil where not recorded
	Annotations []Annotation
	Frames      []Frame
	Stacks      [][]int32 // indices into Frames, innermost first
}
