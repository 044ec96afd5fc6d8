package release

import (
	"fmt"
	"strings"
)

// Fault is one line on a panic, with the place in vlmem that it came from.
func Fault(fault any, stack []byte) string {
	place := "an unknown place"
	_, below, _ := strings.Cut(string(stack), "panic(")
	for line := range strings.Lines(below) {
		if at := strings.Index(line, ".go:"); at >= 0 && strings.Contains(line, "vlmem") {
			place, _, _ = strings.Cut(strings.TrimSpace(line), " ")
			break
		}
	}
	return fmt.Sprintf("internal fault: %v at %s; nothing was written; please report it with the command line", fault,
		place)
}
