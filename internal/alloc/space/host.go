package space

// HostOptions says how host memory is committed. The zero value is plain 4 KiB pages, faulted in at first touch.
type HostOptions struct {
	HugePages bool   // ask for 2 MiB pages and make them the granule
	Populate  bool   // fault pages in at Commit rather than at first touch
	Lock      bool   // keep committed pages out of swap; not the pinning that a device needs
	Nodes     uint64 // NUMA nodes the pages may come from, bit i for node i; 0 for the system's choice
}

func (o HostOptions) granule() int64 {
	if o.HugePages {
		return DeviceGranule
	}
	return HostGranule
}
