package probe

import (
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
)

// The codes of a probe's warnings.
const (
	Disturbed                  = profile.Disturbed
	Unpinned     evidence.Code = "unpinned"      // the thread that timed could not be kept on its CPU
	Firmware     evidence.Code = "firmware"      // tables contradict each other
	UnknownLimit evidence.Code = "unknown limit" // a control group could not be read
	SlowedBelow  evidence.Code = "slowed"        // allocation is throttled before the limit
	NoDriver     evidence.Code = "no driver"     // a card is there that no driver answers for
	Untimed      evidence.Code = "untimed"       // too little memory to time anything: the report alone stands
)
