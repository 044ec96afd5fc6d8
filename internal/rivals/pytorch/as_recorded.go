package pytorch

import "github.com/vlmem/vlmem/internal/verdict"

// AsRecorded is nil where every device of a file is as recorded. The first mismatch counts, or else the first device of
// which nothing could be told.
func AsRecorded(path string, results []Result) error {
	var unsure error
	compared := false
	for _, r := range results {
		if r.Compared()+r.Unplaced == 0 {
			continue
		}
		compared = true
		err := r.verdict()
		switch {
		case verdict.KindOf(err) == verdict.Failed:
			return err
		case unsure == nil:
			unsure = err
		}
	}
	if !compared {
		return verdict.Unsure.Errorf("%s: the recording holds no allocations to compare", path)
	}
	return unsure
}

// verdict is the end that a device's result asks for.
func (r Result) verdict() error {
	switch {
	case r.Exact():
		return nil
	case r.Compared() == 0:
		return verdict.Unsure.Errorf("device %d: the recording allows no prediction", r.Device)
	}
	return verdict.Failed.Errorf("device %d: %d of %d addresses, %d of %d segments and %d of %d releases are as recorded",
		r.Device, r.AddressesMatched, r.AddressesTotal, r.SegmentsMatched, r.SegmentsTotal, r.ReleasesMatched,
		r.ReleasesTotal)
}
