package advise

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
)

// TestAlone: each backend's own way to use one card.
func TestAlone(t *testing.T) {
	for backend, want := range map[string]string{"": "CUDA_VISIBLE_DEVICES=2", "rocm": "HIP_VISIBLE_DEVICES=1",
		"vulkan": "--device Vulkan1", "sycl": "--device SYCL1"} {
		if got := alone(2, &profile.GPU{Backend: backend, Number: 1}); got != want {
			t.Errorf("%q: %s, want %s", backend, got, want)
		}
	}
}
