package snapshot

import (
	"fmt"
	"io"
)

// Export writes recordings as a snapshot, perfetto or csv; path names the file that they are of.
func Export(w io.Writer, format, path string, list []Recording) error {
	switch {
	case format == "perfetto":
		return WritePerfetto(w, list)
	case format == "snapshot":
		return Write(w, FromRecordings(list))
	case len(list) > 1:
		return fmt.Errorf("%s holds %d devices: choose one with --device", path, len(list))
	}
	return WriteCSV(w, &list[0])
}
