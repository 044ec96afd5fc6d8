package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersionCmd(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the Go release and whether cgo is built in",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(env.stdout, "vlmem %s\n", versionLine())
			return err
		},
	}
}

// versionLine is the release, what built it and for what.
func versionLine() string {
	return fmt.Sprintf("%s %s %s/%s cgo=%s", moduleVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
		buildSetting("CGO_ENABLED"))
}

// moduleVersion is the release that was installed, with the commit where the build knows it.
func moduleVersion() string {
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
