package libc

import "path/filepath"

// preloadable is the heaps that can be put in the place of the C library's, by file, and where systems keep them.
var preloadable = map[string][]string{
	"tcmalloc": {"libtcmalloc_minimal.so.4", "libtcmalloc.so.4"},
	"jemalloc": {"libjemalloc.so.2"},
	"mimalloc": {"libmimalloc.so.2", "libmimalloc.so.2.*"},
}

var libraryFolders = []string{"/usr/lib/*-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib"}

// Installed finds the preloadable heaps of this machine.
func Installed() map[string]string {
	found := map[string]string{}
	for name, files := range preloadable {
		for _, file := range files {
			for _, folder := range libraryFolders {
				if paths, err := filepath.Glob(filepath.Join(folder, file)); err == nil && len(paths) > 0 && found[name] == "" {
					found[name] = paths[0]
				}
			}
		}
	}
	return found
}
