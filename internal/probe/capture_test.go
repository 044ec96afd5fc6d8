package probe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
)

// untar lays a capture out and returns its folder and all of its text.
func untar(t *testing.T, data []byte) (dir, text string) {
	t.Helper()
	dir = tempDir(t)
	zipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for files := tar.NewReader(zipped); ; {
		head, err := files.Next()
		if errors.Is(err, io.EOF) {
			return dir, text
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, head.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if head.Typeflag == tar.TypeSymlink {
			if err := os.Symlink(head.Linkname, file); err != nil {
				t.Fatal(err)
			}
			continue
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		text += head.Name + "\n" + string(content)
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCaptureReplays: what is read of a capture is what was read of the machine, and nobody's name is in it.
func TestCaptureReplays(t *testing.T) {
	m := smallMachine().with(pciCard("0000:03:00.0", "0x10de", "0x1b80", machine{"serial_number": "4711\n"})).with(machine{
		"sys/devices/system/cpu/cpu0/topology/ppin": "0x4711\n",
		"proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n" +
			"30 23 0:9 / /home/ada rw - nfs fileserver:/ada rw\n",
		"proc/self/cgroup": "0::/kubepods/burstable\n", "sys/fs/cgroup/cgroup.controllers": "cpu memory\n",
		"sys/fs/cgroup/kubepods/burstable/memory.max":     "4294967296\n",
		"sys/fs/cgroup/kubepods/burstable/memory.current": "0\n",
		"sys/fs/cgroup/kubepods/burstable/memory.stat":    "anon 0\n",
		"sys/fs/cgroup/kubepods/burstable/cpu.max":        "200000 100000\n",
		"proc/version": "Linux version 6.1.0-test (ada@fileserver) #1\n",
		"proc/cpuinfo": smallMachine()["proc/cpuinfo"] + "Serial\t\t: 00004711\n"})
	dir := m.lay(t)
	if err := os.Symlink("../../../bus/pci/drivers/nvidia",
		filepath.Join(dir, pciDir, "0000:03:00.0/driver")); err != nil {
		t.Fatal(err)
	}
	before, err := Reported(dir)
	if err != nil {
		t.Fatal(err)
	}
	card := profile.GPU{Name: "NVIDIA GeForce GTX 1080", PCIBusID: "0000:03:00.0", UUID: "GPU-4711", MemoryBytes: 8 << 30}
	var out bytes.Buffer
	with := before
	with.GPUs = []profile.GPU{card}
	if _, err := Capture(dir, 0, with, &out); err != nil {
		t.Fatal(err)
	}
	replayed, text := untar(t, out.Bytes())
	for _, private := range []string{"4711", "ada", "fileserver"} {
		if strings.Contains(text, private) {
			t.Errorf("the capture holds %q", private)
		}
	}
	after, err := Reported(replayed)
	if err != nil {
		t.Fatal(err)
	}
	card.UUID = ""
	if len(after.GPUs) != 1 || !reflect.DeepEqual(after.GPUs[0], card) || !after.Cards[0].Visible {
		t.Errorf("cards %+v", after.GPUs)
	}
	if before.Cards[0].Visible = true; !reflect.DeepEqual(before.Cards, after.Cards) {
		t.Errorf("cards\n%+v\nof the capture\n%+v", before.Cards, after.Cards)
	}
	after.GPUs, after.Cards, after.Fingerprint = nil, before.Cards, before.Fingerprint
	delete(before.Unknown, "gpus")
	if !reflect.DeepEqual(before, after) {
		t.Errorf("read of the machine\n%+v\nof its capture\n%+v", before, after)
	}
}

// TestCaptureHidesTheHost: containers name their groups as they are named, and the limits must still be found.
func TestCaptureHidesTheHost(t *testing.T) {
	m := smallMachine().with(machine{
		"proc/self/mountinfo": "29 23 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
		"proc/self/cgroup":    "5:memory:/lxc/memory01/ns\n",
		"sys/fs/cgroup/memory/lxc/memory01/ns/memory.limit_in_bytes": "4294967296\n",
		"sys/fs/cgroup/memory/lxc/memory01/ns/memory.usage_in_bytes": "1073741824\n",
		"sys/fs/cgroup/memory/lxc/memory01/ns/memory.stat":           "total_inactive_file 0\n",
	})
	for _, host := range []string{"memory01", "memory", "lxc", "ns"} {
		r, err := openRoot(m.lay(t))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		zipped := gzip.NewWriter(&out)
		c := capture{root: r, tar: tar.NewWriter(zipped), hide: newAnonymous(host)}
		if err := errors.Join(c.files(), c.process(), c.groups(), c.tar.Close(), zipped.Close()); err != nil {
			t.Fatal(err)
		}
		r.close()
		dir, text := untar(t, out.Bytes())
		if host == "memory01" && strings.Contains(text, host) {
			t.Errorf("the capture names the host %q", host)
		}
		h, err := Reported(dir)
		if err != nil || h.Memory.LimitBytes == nil || *h.Memory.LimitBytes != 4<<30 || *h.Memory.AvailableBytes != 3<<30 {
			t.Errorf("host %q: %v, limit %v of %+v", host, err, h.Memory.LimitBytes, h.Memory.Bounds)
		}
	}
}

// named is files in which a machine, its owner and its builders are named.
func named() machine {
	return machine{
		"etc/hostname": "gpu-node-07.corp.example.com\n",
		"proc/version": "Linux version 6.1.0-GPU-Node-07 (x@y) #1\n",
		"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  " +
			"Release Build  (alice@gpu-node-07)  Thu\nGCC version:  gcc 14 (alice's)\n",
		"sys/class/dmi/id/product_name":     "Standard PC of GPU-NODE-07, alice's\n",
		"sys/class/dmi/id/sys_vendor":       "QEMU, alice's\n",
		"sys/class/drm/card1/device/uevent": "DRIVER=asahi\nOF_FULLNAME=/soc/alice\nOF_COMPATIBLE_0=apple,agx-g13g\n",
		"proc/hwloc-nofile-info":            "PageSize: 4096\nHostName: x\nProcessName: alice\n",
		"proc/cpuinfo": "processor 0: version = FF,  identification = 4711AA,  machine = 3906\n" +
			"Serial : 4711AA\n",
		"proc/self/numa_maps": "7f0047110000 bind:0 file=/home/alice\n",
		"proc/self/status": "Name:\talice\nUid:\t4711\t4711\nCpus_allowed_list:\t0\nGid:\t4711\n" +
			"VmSize:\t10 kB\n",
		"proc/device-tree/cpus/l3-cache@0/serial-number": "4711",
		"proc/device-tree/cpus/l3-cache@0/ibm,loc-code":  "U78CB.4711",
	}
}

// TestCaptureNamesNobody: names in every form in which files tell them are gone, and the limits are found all the same.
func TestCaptureNamesNobody(t *testing.T) {
	const escaped = `machine-gpu\x2dnode\x2d07.scope`
	for _, group := range []string{"/gpu-node-07", "/" + escaped, "/user.slice/user-1000.slice/alice s.scope",
		"/kubepods.slice/kubepods-pod4711aaaa_bbbb.slice/cri-containerd-f00f00.scope"} {
		for _, point := range []string{"/sys/fs/cgroup", "/home/alice/groups"} {
			folder := strings.TrimPrefix(point, "/") + group
			m := power().with(named()).with(machine{
				"proc/self/mountinfo": "29 23 0:26 / " + point + " rw shared:4 - cgroup2 alice-source " +
					"rw,release_agent=/alice\n",
				"proc/self/cgroup": "2:name=alice:/alice\n0::" + group + "\n",
				"proc/self/cpuset": group + "\n",
				strings.TrimPrefix(point, "/") + "/cgroup.controllers": "cpu memory\n",
				folder + "/memory.max":                                 "4294967296\n",
				folder + "/memory.current":                             "1073741824\n",
				folder + "/memory.stat":                                "inactive_file 0\n",
			})
			var out bytes.Buffer
			told := profile.Hardware{Cards: []profile.Card{{Vendor: "AMD", Why: "no /home/alice/l.so, Gpu-Node-07"}}}
			if _, err := Capture(m.lay(t), 0, told, &out); err != nil {
				t.Fatal(err)
			}
			dir, text := untar(t, out.Bytes())
			for _, private := range []string{"gpu", "4711", "alice", "f00f00", "node-07", "corp"} {
				if strings.Contains(strings.ToLower(text), private) {
					t.Errorf("%s below %s: the capture holds %q", group, point, private)
				}
			}
			h, err := Reported(dir)
			if err != nil || h.Memory.LimitBytes == nil || *h.Memory.LimitBytes != 4<<30 ||
				h.System.Hypervisor != "qemu" {
				t.Errorf("%s below %s: %v, limit %v, %+v", group, point, err, h.Memory.LimitBytes, h.System)
			}
		}
	}
}
