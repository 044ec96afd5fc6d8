package pytorch

import (
	"encoding/binary"
	"testing"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// hostile makes a recording of data: a few segments and blocks at the start, then entries, most of which contradict
// each other. Addresses and sizes are small so that they meet.
func hostile(data []byte) snapshot.Recording {
	var r snapshot.Recording
	for len(data) >= 6 {
		d := data[:6]
		data = data[6:]
		addr, size := int64(binary.LittleEndian.Uint16(d[1:]))<<9, int64(binary.LittleEndian.Uint16(d[3:]))<<9
		if d[0]&0x40 != 0 {
			size <<= 8
		}
		stream := int64(d[5] & 3)
		switch op := d[0] & 15; op {
		case 12:
			r.Segments = append(r.Segments, snapshot.Segment{Address: addr, TotalSize: size, Stream: stream, Small: d[5]&4 != 0,
				Expandable: d[5]&8 != 0})
		case 13:
			r.Live = append(r.Live, snapshot.Live{Address: addr, Requested: size, Size: size, Stream: stream,
				Exact: d[5]&4 != 0})
		case 14:
			r.Segments = append(r.Segments, snapshot.Segment{Address: 1<<62 + addr, TotalSize: size << 40 >> 40,
				Expandable: true})
		case 15:
			r.Entries = append(r.Entries, snapshot.Entry{Action: snapshot.Alloc, Addr: addr, Size: 1<<62 - size, Stream: stream})
		default:
			r.Entries = append(r.Entries, snapshot.Entry{Action: snapshot.Action(op % 9), Addr: addr, Size: size,
				Stream: stream})
		}
	}
	return r
}

// A recording that no allocator made ends in a result, whatever it holds.
func FuzzCheck(f *testing.F) {
	f.Add([]byte("\x0c\x00\x00\x00\xa0\x00\x0d\x00\x00\x00\x10\x00\x01\x00\x10\x00\x10\x00\x03\x00\x00\x00\x10\x00"),
		byte(0))
	f.Add([]byte("\x0c\x00\x00\x00\xa0\x08\x06\x00\xa0\x00\xa0\x00\x01\x00\xa0\x00\x50\x00\x07\x00\x00\x00\xa0\x00"),
		byte(5))
	f.Fuzz(func(t *testing.T, data []byte, conf byte) {
		cfg, err := ParseConf(settings[int(conf)%len(settings)])
		if err != nil {
			t.Fatal(err)
		}
		r := hostile(data[:min(len(data), 3000)])
		got := Check(&r, cfg, 0)
		if got.AddressesMatched > got.AddressesTotal || got.SegmentsMatched > got.SegmentsTotal ||
			got.ReleasesMatched > got.ReleasesTotal {
			t.Fatalf("more matched than there are: %+v", got)
		}
	})
}
