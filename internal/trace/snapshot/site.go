package snapshot

import (
	"fmt"
	"strings"
)

// site chooses the frame that says most about a stack. Frames are innermost first.
func (s *Snapshot) site(stack []int32) string {
	best, rank := "", 0
	for _, i := range stack {
		f := s.Frames[i]
		if r := siteRank(f); r > rank {
			if best, rank = f.Name, r; r > 1 {
				best = fmt.Sprintf("%s:%d %s", lastElements(f.Filename, 2), f.Line, f.Name)
			}
		}
	}
	return best
}

// siteRank is 3 for a program's Python, 2 for a library's, 1 for native code with a name.
func siteRank(f Frame) int {
	path := strings.ReplaceAll(f.Filename, `\`, "/")
	library := strings.Contains(path, "/site-packages/") || strings.Contains(path, "/dist-packages/") ||
		strings.Contains(path, "/lib/python")
	switch {
	case strings.HasSuffix(path, ".py") && !library:
		return 3
	case strings.HasSuffix(path, ".py"):
		return 2
	case f.Name != "" && f.Filename != "??":
		return 1
	}
	return 0
}

// lastElements keeps the end of a path, enough to find the file.
func lastElements(path string, n int) string {
	elements := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")
	return strings.Join(elements[max(0, len(elements)-n):], "/")
}
