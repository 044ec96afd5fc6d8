package replay

import (
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/vlmem/vlmem/internal/alloc"
)

// The two kinds of run.
const (
	Addresses = "addresses"
	Touched   = "touched"
)

// Summary is what one allocator made of one workload. Sizes are in bytes, times in nanoseconds per operation. Fields
// that a kind of run does not know are nil; times are absent where nothing was timed.
type Summary struct {
	Workload    string  `json:"workload" yaml:"workload"`
	Allocator   string  `json:"allocator" yaml:"allocator"`
	Kind        string  `json:"kind" yaml:"kind"`
	Events      int     `json:"events" yaml:"events"`
	Operations  int     `json:"operations" yaml:"operations"`
	Repeats     int     `json:"repeats" yaml:"repeats"`
	NsPerOpMean float64 `json:"ns_per_op_mean,omitempty" yaml:"ns_per_op_mean,omitempty"`
	NsPerOpP50  float64 `json:"ns_per_op_p50,omitempty" yaml:"ns_per_op_p50,omitempty"`
	NsPerOpP99  float64 `json:"ns_per_op_p99,omitempty" yaml:"ns_per_op_p99,omitempty"`
	// lowest mean of a repeat
	NsPerOpLow float64 `json:"ns_per_op_low,omitempty" yaml:"ns_per_op_low,omitempty"`
	// highest mean of a repeat
	NsPerOpHigh           float64 `json:"ns_per_op_high,omitempty" yaml:"ns_per_op_high,omitempty"`
	LowerBoundBytes       int64   `json:"lower_bound_bytes" yaml:"lower_bound_bytes"`
	PeakLiveBytes         int64   `json:"peak_live_bytes" yaml:"peak_live_bytes"`
	PeakReservedBytes     int64   `json:"peak_reserved_bytes" yaml:"peak_reserved_bytes"`
	Overhead              float64 `json:"overhead" yaml:"overhead"`
	InternalFragmentation float64 `json:"internal_fragmentation" yaml:"internal_fragmentation"`
	ExternalFragmentation float64 `json:"external_fragmentation" yaml:"external_fragmentation"`
	AllocatedBytes        int64   `json:"allocated_bytes" yaml:"allocated_bytes"` // requested over the whole run
	// given back to the backing over the whole run
	ReturnedBytes int64  `json:"returned_bytes" yaml:"returned_bytes"`
	PageFaults    *int64 `json:"page_faults" yaml:"page_faults"`
	PeakRSSBytes  *int64 `json:"peak_rss_bytes" yaml:"peak_rss_bytes"`
	OOMs          int64  `json:"ooms" yaml:"ooms"`
	// Machine is the fingerprint of the one that took the times, where several did.
	Machine string `json:"machine,omitempty" yaml:"machine,omitempty"`

	// RepeatNs is each repeat's mean time of an operation; YardstickNs, where a yardstick was given, its time around it.
	RepeatNs    []float64 `json:"repeat_ns,omitempty" yaml:"-"`
	YardstickNs []float64 `json:"yardstick_ns,omitempty" yaml:"-"`
}

// place fills in what an accounting run saw.
func (s *Summary) place(p *Program, b books) {
	s.Workload, s.Events, s.Operations = p.Name, p.Events, p.Operations()
	s.LowerBoundBytes = p.LowerBound
	s.PeakLiveBytes, s.PeakReservedBytes = b.end.PeakLive, b.end.PeakReserved
	s.AllocatedBytes, s.ReturnedBytes, s.OOMs = b.allocated, b.end.Returned, b.refused
	s.InternalFragmentation, s.ExternalFragmentation = b.internal, b.external
	s.reserve(s.PeakReservedBytes)
}

// reserve sets what was reserved and the overhead that follows.
func (s *Summary) reserve(bytes int64) {
	s.PeakReservedBytes = bytes
	if s.LowerBoundBytes > 0 {
		s.Overhead = float64(bytes)/float64(s.LowerBoundBytes) - 1
	}
}

// time fills in the repeats' batches: nanoseconds of each, all of size operations but the last.
func (s *Summary) time(operations, size int, repeats [][]int64) {
	var batches, means []float64
	for _, repeat := range repeats {
		var total int64
		for i, ns := range repeat {
			total += ns
			batches = append(batches, float64(ns)/float64(min(size, operations-i*size)))
		}
		means = append(means, float64(total)/float64(operations))
	}
	slices.Sort(batches)
	s.Repeats, s.RepeatNs = len(repeats), means
	s.NsPerOpMean = stat.Mean(means, nil)
	s.NsPerOpP50 = stat.Quantile(0.50, stat.Empirical, batches, nil)
	s.NsPerOpP99 = stat.Quantile(0.99, stat.Empirical, batches, nil)
	s.NsPerOpLow, s.NsPerOpHigh = slices.Min(means), slices.Max(means)
}

// books is what an accounting run keeps.
type books struct {
	allocated, refused int64
	internal, external float64
	end                alloc.Stats
}

// note looks at the allocator after an operation.
func (b *books) note(s alloc.Stats) {
	if s.Live > 0 && s.Live >= s.PeakLive {
		b.internal = 1 - float64(s.Requested)/float64(s.Live)
	}
	if s.Reserved >= s.PeakReserved {
		b.external = 0
		if s.Free > 0 {
			b.external = 1 - float64(s.LargestFree)/float64(s.Free)
		}
	}
}

// median is the middle value, the lower of two.
func median(values []int64) int64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
