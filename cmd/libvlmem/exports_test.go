//go:build cgo

package main

import "testing"

// Every call of vlmem.h answers -1, or nothing, to handles that are not live and to no configuration at all.
func TestCallsWithoutAHandle(t *testing.T) {
	if testing.Short() {
		t.Skip("asks for the system's driver")
	}
	for name, code := range map[string]int{
		"vlmem_open": int(vlmem_open(nil, 1, nil, nil)), "vlmem_close": int(vlmem_close(7, nil)),
		"vlmem_allocate":        int(vlmem_allocate(7, nil, 0, nil, nil, nil, nil)),
		"vlmem_attention_layer": int(vlmem_attention_layer(7, 1, 1, 1, 1, 1, nil, nil, nil)),
		"vlmem_free":            int(vlmem_free(7, 7, nil)), "vlmem_relieve": int(vlmem_relieve(7, nil, nil)),
		"vlmem_statistics":      int(vlmem_statistics(7, nil, nil)),
		"vlmem_card_open":       int(vlmem_card_open(nil, 99, 0, nil)),
		"vlmem_card_statistics": int(vlmem_card_statistics(99, nil, nil)),
		"vlmem_card_close":      int(vlmem_card_close(99, nil)),
	} {
		if code != -1 {
			t.Errorf("%s answers %d", name, code)
		}
	}
	if vlmem_card_take(1, 99, nil) != nil {
		t.Error("a card that is not there gave memory")
	}
	vlmem_torch_free(nil, 0, 99, nil)
	vlmem_torch_record(nil, nil)
	vlmem_torch_trim()
}
