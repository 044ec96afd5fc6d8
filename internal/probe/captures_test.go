package probe

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// TestCaptures reads captured machines and compares with what lstopo says of each in the .console or .xml file beside
// it.
func TestCaptures(t *testing.T) {
	archives, err := filepath.Glob(filepath.Join(sharedData(t), "linux_topology", "*.tar.bz2"))
	if err != nil || len(archives) == 0 {
		t.Skipf("no captures (%v): set VLMEM_SHARED_DATA to the folder that holds linux_topology", err)
	}
	for _, archive := range archives {
		base := strings.TrimSuffix(archive, ".tar.bz2")
		t.Run(filepath.Base(base), func(t *testing.T) {
			want, err := lstopoAnswer(base)
			if err != nil {
				t.Fatal(err)
			}
			h, topology, err := Read(unpack(t, archive))
			if err != nil {
				t.Fatal(err)
			}
			got := counts(h, topology)
			for key, n := range want {
				if got[key] != n {
					t.Errorf("%s: %d, lstopo says %d", key, got[key], n)
				}
			}
			for key, n := range got {
				hidden := strings.HasPrefix(key, "L1i") && want["L1i"] == 0 // lstopo shows instruction caches on demand
				if _, ok := want[key]; !ok && n > 0 && !hidden {
					t.Errorf("%s: %d, lstopo has none", key, n)
				}
			}
			if err := h.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func sharedData(t *testing.T) string {
	dir := os.Getenv("VLMEM_SHARED_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no shared data: %v", err)
	}
	return dir
}

// counts lays out h as lstopo's answers are read: objects by type, caches also by size ("L2 1MiB").
func counts(h profile.Hardware, t *Topology) map[string]int {
	got := map[string]int{NUMANode: len(h.NUMA)}
	if _, unknown := h.Unknown["cpu.packages"]; !unknown {
		got[Package] = h.CPU.Packages
	}
	if _, unknown := h.Unknown["cpu.cores"]; !unknown {
		got[Core] = h.CPU.Cores
	}
	got[PU] = h.CPU.Threads
	for _, c := range h.CPU.Caches {
		got[cacheName(c)+" "+lstopoSize(c.SizeBytes)] += c.Instances
		got[cacheName(c)] += c.Instances
	}
	var walk func(*Object)
	walk = func(o *Object) {
		if o.Cache != nil {
			got[cacheName(*o.Cache)+" in the tree"]++
		}
		for _, c := range o.Children {
			walk(c)
		}
	}
	walk(t.Root)
	return got
}

// lstopoSize rounds as lstopo's console does: to KiB below 10 MiB, to MiB below 10 GiB.
func lstopoSize(b units.Bytes) string {
	if b < 10*units.MiB {
		return fmt.Sprintf("%dKiB", (b+units.KiB/2)/units.KiB)
	}
	return fmt.Sprintf("%dMiB", (b+units.MiB/2)/units.MiB)
}

func lstopoAnswer(base string) (map[string]int, error) {
	if f, err := os.Open(base + ".console"); err == nil {
		defer f.Close()
		return parseConsole(f)
	}
	f, err := os.Open(base + ".xml")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseXML(f)
}

var consoleObject = regexp.MustCompile(`^\s*(Package|L\d[di]?Cache|Core|PU|NUMANode)(?:\([^)]*\))? L#\d+(?: .*)?$`)
var consoleSize = regexp.MustCompile(`size=(\d+[KM]iB)`)

// parseConsole counts the object lines of lstopo's console output, above its counts by depth.
func parseConsole(r io.Reader) (map[string]int, error) {
	want := map[string]int{}
	for lines := bufio.NewScanner(r); lines.Scan() && !strings.HasPrefix(lines.Text(), "depth 0:"); {
		m := consoleObject.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		name, cache := strings.CutSuffix(m[1], "Cache")
		want[name]++
		if !cache {
			continue
		}
		size := consoleSize.FindStringSubmatch(m[0])
		if size == nil {
			return nil, fmt.Errorf("no size in %q", m[0])
		}
		want[name+" "+size[1]]++
		want[name+" in the tree"]++
	}
	return want, nil
}

// parseXML counts the objects of lstopo's XML, of versions 2 and 3.
func parseXML(r io.Reader) (map[string]int, error) {
	want := map[string]int{}
	for d := xml.NewDecoder(r); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return want, nil
		}
		if err != nil {
			return nil, err
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "object" {
			continue
		}
		attr := map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		name, cache := strings.CutSuffix(attr["type"], "Cache")
		switch {
		case cache:
			if attr["cache_type"] == "1" {
				name += "d"
			}
			size, err := strconv.ParseInt(attr["cache_size"], 10, 64)
			if err != nil {
				return nil, err
			}
			want[name+" "+lstopoSize(units.Bytes(size))]++
			want[name+" in the tree"]++
			want[name]++
		case name == Package, name == Core, name == PU, name == NUMANode:
			want[name]++
		}
	}
}

// unread matches the many files of a capture that nothing here reads, which are not worth the time to lay out.
var unread = regexp.MustCompile(
	`^sys/(bus|class|firmware)/|^sys/devices/(pci|virtual|platform)|` +
		`/(power|cpuidle|thermal_throttle|acpi_cppc|stats)/|/numastat$|/vmstat$`)

// memoryDir is where Linux keeps files in memory: thousands of small ones take seconds on a disk.
const memoryDir = "/dev/shm"

func tempDir(t *testing.T) string {
	if _, err := os.Stat(memoryDir); err == nil {
		t.Setenv("TMPDIR", memoryDir)
	}
	return t.TempDir()
}

// unpack lays a capture out below a temporary directory and returns its root.
func unpack(t *testing.T, archive string) string {
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir, tops := tempDir(t), map[string]bool{}
	for files := tar.NewReader(bzip2.NewReader(f)); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Clean(h.Name)
		if !filepath.IsLocal(name) {
			t.Fatalf("%s: %s leads outside", archive, h.Name)
		}
		top, rest, _ := strings.Cut(name, "/")
		tops[top] = true
		if unread.MatchString(rest) {
			continue
		}
		if err := lay(filepath.Join(dir, name), h, files); err != nil {
			t.Fatal(err)
		}
	}
	for top := range maps.Keys(tops) {
		return filepath.Join(dir, top)
	}
	t.Fatalf("%s is empty", archive)
	return ""
}

func lay(path string, h *tar.Header, content io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o755)
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	case tar.TypeReg:
		data, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		return os.WriteFile(path, data, 0o644)
	}
	return nil
}
