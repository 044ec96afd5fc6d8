package cuda

import (
	"errors"
	"strings"
	"testing"
)

func TestOpenMissingLibrary(t *testing.T) {
	_, err := Open("/nonexistent/libcuda.so.1")
	if !errors.Is(err, ErrUnavailable) {
		t.Fatalf("Open answers %v, want ErrUnavailable", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("the reason is not one line: %q", err)
	}
}
