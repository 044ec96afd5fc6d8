package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	input "github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Format is how a file states a trace.
type Format uint8

// The formats that OpenFile tells apart by their first bytes.
const (
	Text       Format = iota + 1 // the project's own
	Pickle                       // torch.cuda.memory._dump_snapshot
	FlatCSV                      // a recording as flat rows
	Kineto                       // a Chrome trace with [memory] events
	MiniMalloc                   // a packing problem
	Pprof                        // a memory profile of JAX or XLA
)

var formatNames = map[Format]string{Text: "vlmem trace", Pickle: "PyTorch snapshot", FlatCSV: "recording CSV",
	Kineto: "Chrome trace", MiniMalloc: "MiniMalloc CSV", Pprof: "memory profile (pprof)"}

// String names the format for people.
func (f Format) String() string { return formatNames[f] }

// Recorded reports whether files of the format carry addresses.
func (f Format) Recorded() bool { return f == Pickle || f == FlatCSV || f == Kineto || f == Pprof }

// File is an open file of a recognised format, decompressed. It is read once.
type File struct {
	Path   string
	Format Format

	in     *bufio.Reader
	length int64 // in bytes, 0 where what is read is packed
	close  io.Closer
}

// Open reads every trace of a file: one, or one for each device of a recording. Errors name the file and where in it.
func Open(path string) ([]*Trace, error) {
	f, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Traces()
}

// OpenFile opens a file, gzipped or not, and recognises its format.
func OpenFile(path string) (*File, error) {
	in, err := input.Open(path)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		return nil, fmt.Errorf("opening trace %s: %w", path, err)
	}
	f := &File{Path: path, close: in}
	if err := f.recognise(in); err != nil {
		in.Close()
		return nil, err
	}
	return f, nil
}

func (f *File) recognise(in *os.File) error {
	f.in = bufio.NewReaderSize(in, 64<<10)
	compressed := false
	if magic, _ := f.in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		compressed = true
		z, err := gzip.NewReader(f.in)
		if err != nil {
			return fmt.Errorf("opening trace %s: reading its gzip header: %w", f.Path, err)
		}
		f.in = bufio.NewReaderSize(&inflated{in: z, packed: in}, 64<<10)
	}
	head, err := f.in.Peek(512)
	if len(head) == 0 {
		if err == nil || err == io.EOF {
			return fmt.Errorf("opening trace %s: the file is empty", f.Path)
		}
		return fmt.Errorf("opening trace %s: %w", f.Path, err)
	}
	plain := f.in
	if err := f.unpack(in, head, compressed); err != nil {
		return fmt.Errorf("opening trace %s: %w", f.Path, err)
	}
	if info, err := in.Stat(); err == nil && !compressed && f.in == plain && info.Mode().IsRegular() {
		f.length = info.Size()
	}
	if head, err = f.in.Peek(512); len(head) == 0 {
		return fmt.Errorf("opening trace %s: reading the snapshot inside: %w", f.Path, err)
	}
	if f.Format = formatOf(head); f.Format == 0 {
		return fmt.Errorf("opening trace %s: byte 0: neither a vlmem trace, a PyTorch snapshot, a recording CSV, a Chrome "+
			"trace, a MiniMalloc CSV nor a memory profile", f.Path)
	}
	return nil
}

// formatOf recognises a format by how a file begins.
func formatOf(head []byte) Format {
	line, _, _ := bytes.Cut(head, []byte("\n"))
	first := string(bytes.TrimSpace(line))
	text := bytes.TrimSpace(head)
	switch {
	case len(head) > 1 && head[0] == 0x80 && head[1] <= 5:
		return Pickle
	case strings.HasPrefix(first, formatName) || len(text) > 0 && text[0] == '#':
		return Text
	case first == snapshot.CSVHeader:
		return FlatCSV
	case strings.Contains(first, "lower") && strings.Contains(first, "upper") && strings.Contains(first, ","):
		return MiniMalloc
	case len(text) > 0 && (text[0] == '{' || text[0] == '['):
		return Kineto
	case snapshot.IsPprof(head):
		return Pprof
	}
	return 0
}

// Close closes the file.
func (f *File) Close() error { return f.close.Close() }

// Reader streams a file of the Text format.
func (f *File) Reader() (*Reader, error) {
	if f.Format != Text {
		return nil, fmt.Errorf("%s: a %s is not read as a stream", f.Path, f.Format)
	}
	return NewReader(f.in, f.Path)
}

// Recordings reads the devices of a recording, with addresses.
func (f *File) Recordings() ([]snapshot.Recording, error) {
	switch f.Format {
	case Pickle:
		s, err := snapshot.ReadWithin(f.in, f.length, snapshot.DefaultBudget)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		list := s.Recordings()
		if len(list) == 0 {
			return nil, fmt.Errorf("%s: a snapshot without memory: record with torch.cuda.memory._record_memory_history first",
				f.Path)
		}
		return list, nil
	case FlatCSV:
		r, err := snapshot.ReadCSV(f.in, f.Path)
		return []snapshot.Recording{r}, err
	case Kineto:
		return snapshot.ReadKineto(f.in, f.Path)
	case Pprof:
		return snapshot.ReadPprof(f.in, f.Path)
	}
	return nil, fmt.Errorf("%s: a %s carries no addresses: want a PyTorch snapshot, a recording CSV or a Chrome trace",
		f.Path, f.Format)
}

// Traces reads the whole file into memory.
func (f *File) Traces() ([]*Trace, error) {
	switch f.Format {
	case Text:
		r, err := f.Reader()
		if err != nil {
			return nil, err
		}
		t, err := r.ReadAll()
		if err != nil {
			return nil, err
		}
		if t.Name == "" {
			t.Name = f.Title()
		}
		return []*Trace{t}, nil
	case MiniMalloc:
		t, err := ReadMiniMalloc(f.in, f.Path)
		if err != nil {
			return nil, err
		}
		t.Name = f.Title()
		return []*Trace{t}, nil
	}
	recordings, err := f.Recordings()
	if err != nil {
		return nil, err
	}
	return FromRecordings(f.Path, f.Title(), recordings)
}

// ErrNoHistory is in the chain of errors about recordings that hold a state and not what led to it.
var ErrNoHistory = errors.New("a state without history, which no allocator can replay")

// howToRecord is for those of PyTorch; a memory profile of JAX or XLA never has one.
const howToRecord = ": call torch.cuda.memory._record_memory_history() before what is to be recorded and " +
	"_dump_snapshot() after it (from PyTorch 2.11 on with include_traces=True)"

// FromRecordings is the trace of each device that has a history, named after the title; a device without one is noted
// on the first trace and left out.
func FromRecordings(path, title string, recordings []snapshot.Recording) ([]*Trace, error) {
	var list []*Trace
	var states []string
	for i := range recordings {
		r := &recordings[i]
		name := title
		switch {
		case len(recordings) > 1 && r.Host():
			name += ".host"
		case len(recordings) > 1:
			name = fmt.Sprintf("%s.dev%d", name, r.Device)
		}
		if !r.HasHistory() {
			states = append(states, r.Name())
			continue
		}
		list = append(list, FromRecording(name, r))
		list[len(list)-1].Host, list[len(list)-1].Device = r.Host(), max(0, r.Device)
	}
	if len(list) == 0 {
		how := howToRecord
		if len(recordings) > 0 && recordings[0].Totals != nil {
			how = ""
		}
		return nil, fmt.Errorf("%s: %w%s; vlmem explain gives the account of the state", path, ErrNoHistory, how)
	}
	if len(states) > 0 {
		list[0].Warnings = append(list[0].Warnings, strings.Join(states, ", ")+": a state without history; left out")
	}
	return list, nil
}

// Title is the file's name without the endings that say how it is stored.
func (f *File) Title() string {
	name := filepath.Base(f.Path)
	for {
		switch ext := filepath.Ext(name); ext {
		case ".gz", ".csv", ".pickle", ".pkl", ".json", ".vlmt", ".txt":
			name = strings.TrimSuffix(name, ext)
		default:
			return name
		}
	}
}

// OnDevices keeps the traces of the cards of these numbers; none asks for all.
func OnDevices(list []*Trace, path string, devices []int) ([]*Trace, error) {
	if len(devices) == 0 {
		return list, nil
	}
	var kept []*Trace
	for _, n := range devices {
		k := slices.IndexFunc(list, func(t *Trace) bool { return t.Device == n && !t.Host })
		if k < 0 {
			return nil, noDevice(path, n, len(list))
		}
		kept = append(kept, list[k])
	}
	return kept, nil
}

// OpenCards is the traces of a file, one for each card or for each of those of these numbers. The host's memory is
// replayed where there is no other.
func OpenCards(path string, devices []int) ([]*Trace, error) {
	list, err := Open(path)
	if err != nil {
		return nil, err
	}
	if len(devices) > 0 {
		return OnDevices(list, path, devices)
	}
	cards := slices.DeleteFunc(slices.Clone(list), func(t *Trace) bool { return t.Host })
	if len(cards) == 0 {
		return list, nil
	}
	if len(cards) < len(list) {
		cards[0].Warnings = append(cards[0].Warnings, "the host's memory is no card's and is left out")
	}
	return cards, nil
}

// OpenRecordings opens the devices of a file that carries addresses.
func OpenRecordings(path string) ([]snapshot.Recording, error) {
	f, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Recordings()
}

// OpenDevice opens the only trace of a file, or that of the card of a number; below 0 asks for none.
func OpenDevice(path string, device int) (*Trace, error) {
	traces, err := Open(path)
	switch {
	case err != nil:
		return nil, err
	case device >= 0:
		if traces, err = OnDevices(traces, path, []int{device}); err != nil {
			return nil, err
		}
	case len(traces) > 1:
		return nil, fmt.Errorf("%s holds %d devices: choose one with --device", path, len(traces))
	}
	return traces[0], nil
}

// noDevice says that a file holds other devices.
func noDevice(path string, device, devices int) error {
	return fmt.Errorf("%s: no device %d with a history among its %d", path, device, devices)
}

// DeviceOf keeps the recording of the card of a number; below 0 asks for all.
func DeviceOf(list []snapshot.Recording, path string, device int) ([]snapshot.Recording, error) {
	if device < 0 {
		return list, nil
	}
	k := slices.IndexFunc(list, func(r snapshot.Recording) bool { return r.Device == device })
	if k < 0 {
		return nil, noDevice(path, device, len(list))
	}
	return list[k : k+1], nil
}
