package probe

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// lscpuDiffers is where lscpu's answer for one of its own dumps is another than ours, by dump and item, and why ours is
// kept. Items are those of lscpuAnswer; "*" stands for all dumps.
var lscpuDiffers = map[string]map[string]string{
	"arm-A510-A710-A715-X3": {
		"Core":   "it numbers the cores of each kind anew: 3 + 2 + 2 + 1 in its own summary",
		"Socket": "it counts within each kind; by the kernel's numbers, which its second table has, there are 3",
	},
	"s390-lpar-drawer": {"hypervisor": prsm,
		"NUMA node0": "it lists 141 CPUs of the node, of a machine that has 8"},
	"vmware_fpe": {"Core": "it takes two cores of a Piledriver module, with a core_id, integer units and L1d each, for threads " +
		"of one; lstopo counts them as we do"},
	"s390-lpar": {"hypervisor": prsm},
	"s390-zvm":  {"hypervisor": "it names the vendor, who has two: z/VM is meant"},
	"vbox-win":  {"hypervisor": "it names the vendor, Oracle; VirtualBox is meant"},
}

const prsm = "it names the vendor, who has two: the machine's own partitions are meant"

// TestLscpuDumps reads the dumped machines of util-linux's own tests and compares with what lscpu prints of each. They
// are GPL, and so not kept here: tools/reference/lscpu/run.sh fetches the pinned release and sets VLMEM_LSCPU_TESTS.
func TestLscpuDumps(t *testing.T) {
	dir, told := os.LookupEnv("VLMEM_LSCPU_TESTS")
	if !told {
		t.Skip("VLMEM_LSCPU_TESTS names no tests folder of util-linux's source: tools/reference/lscpu/run.sh fetches one")
	}
	dumps, err := filepath.Glob(filepath.Join(dir, "ts", "lscpu", "dumps", "*.tar.gz"))
	if err != nil || len(dumps) == 0 {
		t.Fatalf("%s holds no ts/lscpu/dumps: %v", dir, err)
	}
	var same, kept int
	for _, dump := range dumps {
		name := strings.TrimSuffix(filepath.Base(dump), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "expected", "lscpu", "lscpu-"+name))
			if err != nil {
				t.Fatal(err)
			}
			want, got := lscpuAnswer(string(text)), ourAnswer(t, dump)
			for _, item := range slices.Sorted(maps.Keys(want)) {
				switch why := lscpuDiffers[name][item]; {
				case got[item] == want[item] && why != "":
					t.Errorf("%s: both say %q now, and the table says: %s", item, got[item], why)
				case got[item] == want[item]:
					same++
				case why == "":
					t.Errorf("%s: %q, lscpu says %q", item, got[item], want[item])
				default:
					kept++
				}
			}
		})
	}
	t.Logf("%d dumps: %d items as lscpu prints them, %d otherwise for a reason", len(dumps), same, kept)
}

// lscpuAnswer is what lscpu prints, by item: CPUs, their cores, sockets and nodes as its table for programs numbers
// them, caches with their size and number, names.
func lscpuAnswer(text string) map[string]string {
	summary, tables, _ := strings.Cut(text, "\n\n")
	want := map[string]string{}
	var models []string
	cache := regexp.MustCompile(`^(L\d[di]?)(?: cache)?$`)
	for line := range strings.Lines(summary) {
		key, value, _ := strings.Cut(line, ":")
		key, value = strings.TrimSpace(key), strings.Join(strings.Fields(value), " ")
		switch m := cache.FindStringSubmatch(key); {
		case m != nil:
			want["size of "+m[1]] = value
		case key == "Model name" && value != "-":
			models = append(models, value)
		case key == "On-line CPU(s) list":
			want["online"] = count(value)
		case key == "Off-line CPU(s) list":
			want["offline"] = count(value)
		case key == "Hypervisor vendor":
			want["hypervisor"] = strings.ToLower(value)
		case key == "NUMA node(s)":
			want["Node"] = value
		case strings.HasPrefix(key, "NUMA node") && strings.HasSuffix(key, "CPU(s)"):
			want[strings.TrimSuffix(key, " CPU(s)")] = count(value)
		}
	}
	if slices.Sort(models); len(models) > 0 {
		want["model"] = strings.Join(models, " + ")
	}
	logical, _, _ := strings.Cut(tables, "\n\n")
	lscpuTable(logical, want)
	return want
}

// lscpuTable counts the different numbers in each column of a table such as "# CPU,Core,Socket,Node,,L1d,L1i,L2".
func lscpuTable(text string, want map[string]string) {
	var columns []string
	seen := map[string]map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# CPU"); ok {
			columns = strings.Split("CPU"+rest, ",")
			continue
		}
		cells := strings.Split(line, ",")
		if strings.HasPrefix(line, "#") || len(cells) != len(columns) {
			continue
		}
		for i, cell := range cells {
			if name := columns[i]; name != "" && name != "CPU" && name != "Node" && cell != "" && cell != "-" {
				if seen[name] == nil {
					seen[name] = map[string]bool{}
				}
				seen[name][cell] = true
			}
		}
	}
	for name, values := range seen {
		want[name] = strconv.Itoa(len(values))
	}
}

// count is how many numbers a list holds: the kernel's ranges, and lscpu's with a stride, "0-62:2".
func count(list string) string {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		var low, high, stride int
		switch got, _ := fmt.Sscanf(part, "%d-%d:%d", &low, &high, &stride); got {
		case 1:
			n++
		case 2:
			n += high - low + 1
		case 3:
			n += (high-low)/stride + 1
		}
	}
	return strconv.Itoa(n)
}

// ourAnswer is lscpuAnswer of what Read makes of a dump.
func ourAnswer(t *testing.T, dump string) map[string]string {
	t.Helper()
	h, topology, err := Read(unpackDump(t, dump))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Error(err)
	}
	got := map[string]string{"online": strconv.Itoa(h.CPU.Threads), "Core": strconv.Itoa(h.CPU.Cores),
		"Socket": strconv.Itoa(h.CPU.Packages), "Node": strconv.Itoa(len(h.NUMA))}
	if n := len(h.CPU.Offline); n > 0 {
		got["offline"] = strconv.Itoa(n)
	}
	if h.System != nil {
		got["hypervisor"] = h.System.Hypervisor
	}
	models := strings.Split(h.CPU.Model, " + ")
	slices.Sort(models)
	got["model"] = strings.Join(models, " + ")
	for _, n := range h.NUMA {
		got[fmt.Sprintf("NUMA node%d", n.ID)] = strconv.Itoa(len(n.CPUs))
	}
	placed := map[string]int{}
	for _, o := range topology.objects {
		if o.Cache != nil {
			placed[o.Type]++
		}
	}
	sizes := map[string]units.Bytes{}
	for _, c := range h.CPU.Caches {
		sizes[cacheName(c)] += c.SizeBytes * units.Bytes(c.Instances)
	}
	for name, size := range sizes {
		got["size of "+name] = lscpuSize(size)
		if n := placed[name]; n > 0 {
			got[name] = strconv.Itoa(n)
			got["size of "+name] += fmt.Sprintf(" (%d instance%s)", n, map[bool]string{false: "s"}[n == 1])
		}
	}
	return got
}

// lscpuSize writes a size as lscpu does: to one decimal, without it where it is zero.
func lscpuSize(b units.Bytes) string {
	for _, u := range []struct {
		size units.Bytes
		name string
	}{{units.GiB, "GiB"}, {units.MiB, "MiB"}, {units.KiB, "KiB"}} {
		if b >= u.size {
			return strconv.FormatFloat(math.Round(10*float64(b)/float64(u.size))/10, 'f', -1, 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%d B", int64(b))
}

// unpackDump unpacks an archive with one folder, and answers its path. Links are made only where they stay inside.
func unpackDump(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	top := dir
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for r := tar.NewReader(z); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return top
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Clean(e.Name)
		if first, _, _ := strings.Cut(name, "/"); top == dir && first != "." {
			top = filepath.Join(dir, first)
		}
		if err := unpackEntry(root, r, e, name); err != nil {
			t.Fatal(err)
		}
	}
}

func unpackEntry(root *os.Root, r io.Reader, e *tar.Header, name string) error {
	switch e.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return root.Symlink(e.Linkname, name)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		return root.WriteFile(name, data, 0o644)
	}
	return nil
}
