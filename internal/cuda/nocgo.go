//go:build !cgo || !linux

package cuda

import "time"

// The types of the driver's API. Open never makes one, so their methods are reached by no program; they are here so
// that callers compile alike with and without cgo.
type (
	Driver   struct{}
	Context  struct{}
	Stream   struct{}
	Event    struct{}
	Module   struct{}
	Function struct{}
)

// Open answers why there is no driver.
func Open(string) (*Driver, error) { return nil, &Unavailable{Reason: "built without cgo"} }

func (*Driver) Close() error                                    { return ErrUnavailable }
func (*Driver) Version() int                                    { return 0 }
func (*Driver) Missing() []string                               { return nil }
func (*Driver) Devices() ([]Device, error)                      { return nil, ErrUnavailable }
func (*Driver) Retain(int) (*Context, error)                    { return nil, ErrUnavailable }
func (*Context) Device() Device                                 { return Device{} }
func (*Context) Release() error                                 { return ErrUnavailable }
func (*Context) Synchronize() error                             { return ErrUnavailable }
func (*Context) MemInfo() (int64, int64, error)                 { return 0, 0, ErrUnavailable }
func (*Context) Alloc(int64) (Ptr, error)                       { return 0, ErrUnavailable }
func (*Context) Free(Ptr) error                                 { return ErrUnavailable }
func (*Context) HostAlloc(int64, int) ([]byte, error)           { return nil, ErrUnavailable }
func (*Context) HostFree([]byte) error                          { return ErrUnavailable }
func (*Context) HostRegister([]byte, int) error                 { return ErrUnavailable }
func (*Context) HostUnregister([]byte) error                    { return ErrUnavailable }
func (*Context) AllocManaged(int64) (Ptr, []byte, error)        { return 0, nil, ErrUnavailable }
func (*Context) Advise(Ptr, int64, Advice, int) error           { return ErrUnavailable }
func (*Context) Prefetch(Ptr, int64, int, *Stream) error        { return ErrUnavailable }
func (*Context) ToDevice(Ptr, []byte) error                     { return ErrUnavailable }
func (*Context) ToHost([]byte, Ptr) error                       { return ErrUnavailable }
func (*Context) Copy(Ptr, Ptr, int64) error                     { return ErrUnavailable }
func (*Context) Granularity() (int64, error)                    { return 0, ErrUnavailable }
func (*Context) Reserve(int64) (Ptr, error)                     { return 0, ErrUnavailable }
func (*Context) Unreserve(Ptr, int64) error                     { return ErrUnavailable }
func (*Context) Map(Ptr, int64) error                           { return ErrUnavailable }
func (*Context) Remap(Ptr, Ptr, int64) error                    { return ErrUnavailable }
func (*Context) Unmap(Ptr, int64) error                         { return ErrUnavailable }
func (*Context) Adopt(uintptr) *Stream                          { return nil }
func (*Context) NewStream() (*Stream, error)                    { return nil, ErrUnavailable }
func (*Stream) Handle() uintptr                                 { return 0 }
func (*Stream) Destroy() error                                  { return ErrUnavailable }
func (*Stream) Synchronize() error                              { return ErrUnavailable }
func (*Stream) Query() error                                    { return ErrUnavailable }
func (*Stream) Wait(*Event) error                               { return ErrUnavailable }
func (*Stream) ToDevice(Ptr, []byte) error                      { return ErrUnavailable }
func (*Stream) ToHost([]byte, Ptr) error                        { return ErrUnavailable }
func (*Stream) Copy(Ptr, Ptr, int64) error                      { return ErrUnavailable }
func (*Stream) Set(Ptr, byte, int64) error                      { return ErrUnavailable }
func (*Context) NewEvent(bool) (*Event, error)                  { return nil, ErrUnavailable }
func (*Event) Destroy() error                                   { return ErrUnavailable }
func (*Event) Record(*Stream) error                             { return ErrUnavailable }
func (*Event) Query() error                                     { return ErrUnavailable }
func (*Event) Done() (bool, error)                              { return false, ErrUnavailable }
func (*Event) Synchronize() error                               { return ErrUnavailable }
func (*Event) Since(*Event) (time.Duration, error)              { return 0, ErrUnavailable }
func (*Stream) AllocAsync(int64) (Ptr, error)                   { return 0, ErrUnavailable }
func (*Stream) FreeAsync(Ptr) error                             { return ErrUnavailable }
func (*Context) PoolInfo() (PoolInfo, error)                    { return PoolInfo{}, ErrUnavailable }
func (*Context) KeepInPool(int64) error                         { return ErrUnavailable }
func (*Context) TrimPool(int64) error                           { return ErrUnavailable }
func (*Context) Load(string) (*Module, error)                   { return nil, ErrUnavailable }
func (*Module) Unload() error                                   { return ErrUnavailable }
func (*Module) Function(string) (*Function, error)              { return nil, ErrUnavailable }
func (*Function) Info() (FunctionInfo, error)                   { return FunctionInfo{}, ErrUnavailable }
func (*Function) AllowShared(int64) error                       { return ErrUnavailable }
func (*Function) Occupancy(int, int64) (int, error)             { return 0, ErrUnavailable }
func (*Function) Launch(Dim3, Dim3, int64, *Stream, Args) error { return ErrUnavailable }
