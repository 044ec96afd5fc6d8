// Package resident reads what the operating system holds in memory for this process: resident bytes now and at their
// highest, and page faults.
//
// The kernel keeps the highest resident size since the process began, or since it was told to forget (writing 5 to
// /proc/self/clear_refs, Linux 4.0). A Window therefore spans one measurement: Open forgets the old height and notes
// where things stand, Close says how far they rose. Where forgetting is not permitted the height counts only if it was
// exceeded, and Window.Exact says so. The figures are of the whole process: measure one thing per process.
package resident

// Usage is how memory moved between Open and Close of a Window.
type Usage struct {
	PeakBytes int64 // highest resident size above the size at Open
	Faults    int64 // minor page faults
	Exact     bool  // the kernel's height was reset at Open
}

// Window is a measurement under way.
type Window struct {
	start  snapshot
	height int64
	exact  bool
}

type snapshot struct {
	resident, height, faults int64
}

// Open begins a measurement. It fails where the system does not tell a process its resident size.
func Open() (Window, error) {
	exact := forgetHeight()
	s, err := take()
	return Window{start: s, height: s.height, exact: exact}, err
}

// Close ends it.
func (w Window) Close() (Usage, error) {
	s, err := take()
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Faults: s.faults - w.start.faults, Exact: w.exact}
	if s.height > w.height {
		u.PeakBytes = s.height - w.start.resident
	} else {
		u.PeakBytes = max(0, s.resident-w.start.resident)
	}
	return u, nil
}
