package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// A program in C++ takes a card's memory as PyTorch does, from two threads with a stream each.
func TestTorchFunctions(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the library")
	}
	if _, err := exec.LookPath("g++"); err != nil {
		t.Skip("no C++ compiler (g++)")
	}
	driver := standin.Build(t, standin.Options{Card: "p6000", Memory: 256 << 20})
	folder := t.TempDir()
	library, program := filepath.Join(folder, "libvlmem.so"), filepath.Join(folder, "torch")
	for _, command := range [][]string{
		{"go", "build", "-buildmode=c-shared", "-o", library, "."},
		{"g++", "-std=c++17", "-O1", "-pthread", "-o", program, "testdata/torch.cpp", "-ldl"},
	} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
	}
	out, err := exec.Command(program, driver.Path, library).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var s struct {
		Live        int64  `json:"live_bytes"`
		Reserved    int64  `json:"reserved_bytes"`
		Allocs      int64  `json:"allocations"`
		Frees       int64  `json:"frees"`
		Refused     int64  `json:"out_of_memory"`
		LastRefusal string `json:"last_refusal"`
	}
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s.Live != 0 || s.Reserved != 0 || s.Allocs != 800 || s.Frees != 800 || s.Refused == 0 || s.LastRefusal == "" {
		t.Errorf("%s", out)
	}
}
