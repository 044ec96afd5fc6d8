// Package cuda is the CUDA driver API, reached by dlopen: no toolkit, header or stub library is needed to build, and a
// machine without a card runs the same program.
//
// Open loads libcuda.so.1 (or the library a caller names), looks up every symbol by its exported name and keeps one
// typed pointer for each. Functions whose binary interface grew to 64 bits are taken under their _v2 names alone, since
// the plain export still takes 32-bit pointers; where both names have one interface, _v2 comes first and the plain name
// is the fallback. Symbols that only some drivers have (managed memory, pools, virtual memory, modules) are optional:
// without them the calls that need them answer ErrUnsupported and the rest works.
//
// A context belongs to an operating system thread, and a goroutine to none. Each call therefore makes its context
// current and does its work within one call into C, during which the Go runtime cannot move it. Locking goroutines to
// threads and sending them work was the other way; it costs a channel round trip per call and makes no call safer.
//
// What a card cannot tell lies in two other doors: PCI devices that the kernel shows (see Cards, Diagnose) and the text
// of nvidia-smi (see ParseSMI). Built without cgo the package has the same API, and Open answers ErrUnavailable.
//
// Symbol names, attribute numbers and error codes follow cuda.h of CUDA 12.6.
package cuda

import (
	"errors"
	"fmt"
)

// Sentinels that callers branch on. An *Error answers errors.Is for the ones that its code means.
var (
	ErrUnavailable = errors.New("no CUDA driver")          // the driver could not be loaded or started
	ErrUnsupported = errors.New("not supported")           // this driver or card lacks the feature
	ErrOutOfMemory = errors.New("out of device memory")    // also out of pinned memory
	ErrNotReady    = errors.New("work is still under way") // queries of streams and events
)

// LibraryFolders hold the driver's libraries where the loader does not look by itself: Windows' in WSL2, Jetson's
// before and after JetPack 6, NixOS's, and that of containers on GKE.
var LibraryFolders = []string{"/usr/lib/wsl/lib", "/usr/lib/aarch64-linux-gnu/tegra",
	"/usr/lib/aarch64-linux-gnu/nvidia", "/run/opengl-driver/lib", "/usr/local/nvidia/lib64"}

// Ptr is an address in device or managed memory.
type Ptr uint64

// Device is one card as the driver describes it.
type Device struct {
	Ordinal    int
	Name       string
	UUID       string // "GPU-xxxxxxxx-…", "" where the driver does not say
	PCIBusID   string // "0000:01:00.0", "" where the driver does not say
	TotalBytes int64
	Attributes
	Unknown map[string]string // attribute → why it could not be read
}

// Attributes are the numbers that fix what fits and runs on a card. Sizes are bytes, clocks hertz.
type Attributes struct {
	Major, Minor              int // compute capability
	SMs                       int
	WarpSize                  int
	MaxThreadsPerBlock        int
	MaxThreadsPerSM           int
	MaxBlocksPerSM            int
	RegistersPerBlock         int
	RegistersPerSM            int
	SharedPerBlock            int64 // without opting in
	SharedPerBlockOptin       int64
	SharedPerSM               int64
	SharedReserved            int64 // per block, by the driver
	L2Bytes                   int64
	ConstantBytes             int64
	ClockHz                   float64
	MemoryClockHz             float64
	MemoryBusBits             int
	CopyEngines               int
	Integrated                bool
	ECC                       bool
	ExecTimeout               bool // a display watchdog ends long kernels
	MapHostMemory             bool
	ConcurrentKernels         bool
	UnifiedAddressing         bool
	ManagedMemory             bool
	ConcurrentManagedAccess   bool
	PageableMemoryAccess      bool
	HostRegister              bool
	VirtualMemoryManagement   bool
	MemoryPools               bool
	Preemption                bool
	SinglePerDoubleThroughput int // FP32 rate over FP64 rate
}

// attributes ties each field to its number in CUdevice_attribute. scale turns the driver's unit into the field's.
func (a *Attributes) fields() []attribute {
	return []attribute{
		{"max_threads_per_block", 1, 1, &a.MaxThreadsPerBlock},
		{"shared_memory_per_block", 8, 1, &a.SharedPerBlock},
		{"constant_memory", 9, 1, &a.ConstantBytes},
		{"warp_size", 10, 1, &a.WarpSize},
		{"registers_per_block", 12, 1, &a.RegistersPerBlock},
		{"clock", 13, 1000, &a.ClockHz},
		{"sm_count", 16, 1, &a.SMs},
		{"exec_timeout", 17, 1, &a.ExecTimeout},
		{"integrated", 18, 1, &a.Integrated},
		{"map_host_memory", 19, 1, &a.MapHostMemory},
		{"concurrent_kernels", 31, 1, &a.ConcurrentKernels},
		{"ecc", 32, 1, &a.ECC},
		{"memory_clock", 36, 1000, &a.MemoryClockHz},
		{"memory_bus_width", 37, 1, &a.MemoryBusBits},
		{"l2_cache", 38, 1, &a.L2Bytes},
		{"max_threads_per_sm", 39, 1, &a.MaxThreadsPerSM},
		{"copy_engines", 40, 1, &a.CopyEngines},
		{"unified_addressing", 41, 1, &a.UnifiedAddressing},
		{"compute_capability_major", 75, 1, &a.Major},
		{"compute_capability_minor", 76, 1, &a.Minor},
		{"shared_memory_per_sm", 81, 1, &a.SharedPerSM},
		{"registers_per_sm", 82, 1, &a.RegistersPerSM},
		{"managed_memory", 83, 1, &a.ManagedMemory},
		{"single_per_double_throughput", 87, 1, &a.SinglePerDoubleThroughput},
		{"pageable_memory_access", 88, 1, &a.PageableMemoryAccess},
		{"concurrent_managed_access", 89, 1, &a.ConcurrentManagedAccess},
		{"compute_preemption", 90, 1, &a.Preemption},
		{"shared_memory_per_block_optin", 97, 1, &a.SharedPerBlockOptin},
		{"host_register", 99, 1, &a.HostRegister},
		{"virtual_memory_management", 102, 1, &a.VirtualMemoryManagement},
		{"max_blocks_per_sm", 106, 1, &a.MaxBlocksPerSM},
		{"shared_memory_reserved", 111, 1, &a.SharedReserved},
		{"memory_pools", 115, 1, &a.MemoryPools},
	}
}

type attribute struct {
	name   string
	number int
	scale  float64
	into   any // *int, *int64, *float64 or *bool
}

// read fills every attribute through ask. What ask refuses stays zero and is named in the result.
func (a *Attributes) read(ask func(number int) (int, error)) map[string]string {
	unknown := map[string]string{}
	for _, f := range a.fields() {
		v, err := ask(f.number)
		if err != nil {
			unknown[f.name] = err.Error()
			continue
		}
		switch p := f.into.(type) {
		case *int:
			*p = v
		case *int64:
			*p = int64(v)
		case *float64:
			*p = float64(v) * f.scale
		case *bool:
			*p = v != 0
		}
	}
	return unknown
}

// BandwidthBytesPerS is the theoretical rate of device memory: two transfers per memory clock over the whole bus.
func (d *Device) BandwidthBytesPerS() float64 {
	return 2 * d.MemoryClockHz * float64(d.MemoryBusBits) / 8
}

// ComputeCapability is "6.1".
func (d *Device) ComputeCapability() string { return fmt.Sprintf("%d.%d", d.Major, d.Minor) }

// Code is a CUresult.
type Code int

// The results that vlmem tells apart. codeAbsent is ours: the library lacks the symbol.
const (
	codeAbsent       Code = -1
	Success          Code = 0
	InvalidValue     Code = 1
	OutOfMemory      Code = 2
	NotInitialized   Code = 3
	StubLibrary      Code = 34
	DeviceBusy       Code = 46
	NoDevice         Code = 100
	InvalidDevice    Code = 101
	InvalidImage     Code = 200
	InvalidContext   Code = 201
	NoBinary         Code = 209
	InvalidPTX       Code = 218
	NoJITCompiler    Code = 221
	UnsupportedPTX   Code = 222
	NotFound         Code = 500
	NotReady         Code = 600
	IllegalAddress   Code = 700
	OutOfResources   Code = 701
	LaunchTimeout    Code = 702
	LaunchFailed     Code = 719
	NotSupported     Code = 801
	SystemNotReady   Code = 802
	DriverMismatch   Code = 803
	CompatNoHardware Code = 804
	UnknownError     Code = 999
)

// codes gives each result its name in cuda.h and what it means, for drivers too broken to be asked.
var codes = map[Code]struct{ name, text string }{
	codeAbsent:     {"symbol missing", "this driver has no such call"},
	InvalidValue:   {"CUDA_ERROR_INVALID_VALUE", "invalid argument"},
	OutOfMemory:    {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
	NotInitialized: {"CUDA_ERROR_NOT_INITIALIZED", "the driver was not started"},
	StubLibrary:    {"CUDA_ERROR_STUB_LIBRARY", "the library is the toolkit's stub, not a driver"},
	DeviceBusy:     {"CUDA_ERROR_DEVICE_UNAVAILABLE", "the device is in exclusive use or unavailable"},
	NoDevice:       {"CUDA_ERROR_NO_DEVICE", "no CUDA device"},
	InvalidDevice:  {"CUDA_ERROR_INVALID_DEVICE", "no device of that number"},
	InvalidImage:   {"CUDA_ERROR_INVALID_IMAGE", "the module is not valid"},
	InvalidContext: {"CUDA_ERROR_INVALID_CONTEXT", "no valid context"},
	NoBinary:       {"CUDA_ERROR_NO_BINARY_FOR_GPU", "the module has no code for this card"},
	InvalidPTX:     {"CUDA_ERROR_INVALID_PTX", "compiling PTX failed"},
	NoJITCompiler:  {"CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "libnvidia-ptxjitcompiler is not installed"},
	UnsupportedPTX: {"CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the driver is older than the PTX"},
	NotFound:       {"CUDA_ERROR_NOT_FOUND", "no such name"},
	NotReady:       {"CUDA_ERROR_NOT_READY", "work is still under way"},
	IllegalAddress: {"CUDA_ERROR_ILLEGAL_ADDRESS", "a kernel or copy touched memory that is not its own"},
	OutOfResources: {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
		"the launch needs more registers or shared memory than a block may have"},
	LaunchTimeout:  {"CUDA_ERROR_LAUNCH_TIMEOUT", "the display watchdog ended a kernel"},
	LaunchFailed:   {"CUDA_ERROR_LAUNCH_FAILED", "a kernel failed"},
	NotSupported:   {"CUDA_ERROR_NOT_SUPPORTED", "not supported on this card or driver"},
	SystemNotReady: {"CUDA_ERROR_SYSTEM_NOT_READY", "the system's fabric or services are not started"},
	DriverMismatch: {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
		"libcuda and the loaded kernel module are of different versions"},
	CompatNoHardware: {"CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "the compatibility library does not serve this card"},
	UnknownError:     {"CUDA_ERROR_UNKNOWN", "unknown error"},
}

// String is the code's name in cuda.h.
func (c Code) String() string {
	if known, ok := codes[c]; ok {
		return known.name
	}
	return fmt.Sprintf("CUDA error %d", int(c))
}

// Sticky says that the context is lost: every later call in it fails with the same code, and only a new process helps.
func (c Code) Sticky() bool {
	switch c {
	case IllegalAddress, LaunchTimeout, LaunchFailed, 710, 714, 715, 716, 717, 718:
		return true
	}
	return false
}

// Error is a driver call that failed.
type Error struct {
	Call   string // as exported by the library, "cuMemAlloc_v2"
	Code   Code
	Detail string // sizes, a compiler's log; "" where there is none
}

func (e *Error) Error() string {
	text := codes[e.Code].text
	if text == "" {
		text = "failed"
	}
	s := fmt.Sprintf("%s: %s (%s)", e.Call, text, e.Code)
	if e.Code > 0 {
		s = fmt.Sprintf("%s: %s (%s, %d)", e.Call, text, e.Code, int(e.Code))
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Code.Sticky() {
		s += "; the context is lost and needs a new process"
	}
	return s
}

// Is matches the package's sentinels.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrOutOfMemory:
		return e.Code == OutOfMemory
	case ErrUnsupported:
		return e.Code == NotSupported || e.Code == codeAbsent
	case ErrNotReady:
		return e.Code == NotReady
	}
	return false
}

// Unavailable says why Open failed. It matches ErrUnavailable.
type Unavailable struct {
	Path   string // the library that was tried, "" where none could be
	Reason string // one line
	Code   Code   // cuInit's answer, Success where it was not reached
}

func (u *Unavailable) Error() string {
	if u.Path == "" {
		return "no CUDA driver: " + u.Reason
	}
	return fmt.Sprintf("no CUDA driver (%s): %s", u.Path, u.Reason)
}

// Is matches ErrUnavailable.
func (u *Unavailable) Is(target error) bool { return target == ErrUnavailable }

// DefaultLibrary is what Open loads when no path is given.
const DefaultLibrary = "libcuda.so.1"

// Advice is a hint for managed memory, CUmem_advise.
type Advice int

// The hints that vlmem gives.
const (
	ReadMostly           Advice = 1
	UnsetReadMostly      Advice = 2
	PreferredLocation    Advice = 3
	UnsetPreferredPlace  Advice = 4
	AccessedBy           Advice = 5
	UnsetAccessedBy      Advice = 6
	hostDevice                  = -1 // CU_DEVICE_CPU
	managedGlobal               = 1
	HostPortable                = 1 // flags of HostAlloc
	HostDeviceMap               = 2
	HostWriteCombined           = 4
	streamNonBlocking           = 1
	eventNoTiming               = 2
	poolReleaseThreshold        = 4
	poolReservedNow             = 5
	poolUsedNow                 = 7
)

// FunctionInfo is what a compiled kernel needs, from cuFuncGetAttribute.
type FunctionInfo struct {
	MaxThreadsPerBlock int
	SharedBytes        int64 // static
	LocalBytes         int64 // per thread: spilled registers and arrays
	Registers          int   // per thread
	PTXVersion         int
	BinaryVersion      int
}

// PoolInfo is what the driver's own stream-ordered pool holds, in bytes.
type PoolInfo struct{ Reserved, Used int64 }

// Dim3 is the extent of a grid or block.
type Dim3 struct{ X, Y, Z uint32 }

// HostDevice is the device number that Advise and Prefetch take for the host.
const HostDevice = hostDevice
