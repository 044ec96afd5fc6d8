package release

import (
	"runtime"
	"strings"
	"testing"
)

func TestLineSaysWhatBuiltIt(t *testing.T) {
	if line := Line(); !strings.HasPrefix(line, Version()) || !strings.Contains(line, runtime.Version()) ||
		!strings.Contains(line, runtime.GOOS+"/"+runtime.GOARCH) {
		t.Error(line)
	}
}

// A fault is one line that names the place in vlmem, not the runtime's nor a library's.
func TestFaultNamesThePlace(t *testing.T) {
	stack := "goroutine 1 [running]:\nruntime/debug.Stack()\n\t/go/src/runtime/debug/stack.go:26\npanic({0x1, 0x2})\n" +
		"\t/go/src/runtime/panic.go:785\ngithub.com/other/library.Do()\n\tgithub.com/other/library@v1/do.go:3 +0x1\n" +
		"github.com/vlmem/vlmem/internal/plan.Pack()\n\tgithub.com/vlmem/vlmem/internal/plan/plan.go:17 +0x1d\n"
	got := Fault("boom", []byte(stack))
	if strings.Contains(got, "\n") || !strings.Contains(got, "boom at github.com/vlmem/vlmem/internal/plan/plan.go:17;") {
		t.Error(got)
	}
	if got := Fault("boom", nil); !strings.Contains(got, "an unknown place") {
		t.Error(got)
	}
}
