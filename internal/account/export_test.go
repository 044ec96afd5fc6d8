package account

import "github.com/vlmem/vlmem/internal/trace/snapshot"

// Of counts segments that carry their blocks. page is the size in which large expandable segments give memory back.
func Of(segments []snapshot.Segment, page int64) Account {
	var a Account
	for i := range segments {
		a.add(&segments[i], page)
	}
	return a
}
