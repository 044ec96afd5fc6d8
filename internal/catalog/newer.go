package catalog

import (
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
)

// laterMinor is the schema of a document of vlmem's own with a minor; every reader knows the first major alone.
var laterMinor = regexp.MustCompile(`(?m)(?:^|[{,\s])"?schema"?\s*:\s*["']?((vlmem/[a-z]+/v1)\.\d+)\b`)

// Newer is a warning for each file among what was typed, alone or joined by "+", that is of a newer minor of its schema
// than is known here: its reader passes over the keys that it does not know. A configuration's says so itself.
func Newer(typed []string) (warnings []string) {
	for _, spec := range typed {
		for name := range strings.SplitSeq(spec, "+") {
			if info, err := os.Stat(name); err != nil || !isFile(name) || !info.Mode().IsRegular() {
				continue
			}
			m := laterMinor.FindSubmatch(headOf(name))
			if m != nil && file.Newer(string(m[1]), string(m[2])) {
				warnings = append(warnings, file.PassedOver(name, string(m[1]), string(m[2])))
			}
		}
	}
	return warnings
}

// headOf is where a document names its schema; of one that cannot be read its reader says why.
func headOf(name string) []byte {
	f, err := file.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, 1<<16))
	return head
}
