package pytorch

import (
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
)

func TestConformance(t *testing.T) {
	for _, conf := range settings {
		t.Run("conf="+conf, func(t *testing.T) {
			cfg, err := ParseConf(conf)
			if err != nil {
				t.Fatal(err)
			}
			alloctest.Run(t, func() alloc.Allocator {
				a, err := New(cfg, 200*mib)
				if err != nil {
					t.Fatal(err)
				}
				return a
			}, alloctest.Options{Aligns: []int64{64, 512}})
		})
	}
}
