// Package release says which vlmem this is: the release that was installed, the commit and what built it, from the
// build information of the program.
package release

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Line is the release, what built it and for what.
func Line() string {
	return fmt.Sprintf("%s %s %s/%s cgo=%s", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		buildSetting("CGO_ENABLED"))
}

// Version is the release that was installed, with the commit where the build knows it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	if revision := buildSetting("vcs.revision"); len(revision) >= 12 {
		return info.Main.Version + " " + revision[:12]
	}
	return info.Main.Version
}

func buildSetting(key string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == key {
				return s.Value
			}
		}
	}
	return ""
}
