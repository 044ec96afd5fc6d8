package baseline

import "testing"

// FuzzRead: a saved run is refused, or compares with itself without finding anything worse.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema": "vlmem/baseline/v1", "results": [{"workload": "w", "allocator": "a", "kind": "addresses"}]}`))
	f.Add([]byte(`{"schema": "vlmem/baseline/v1", "results": []}`))
	f.Add([]byte(`{"schema": "vlmem/baseline/v1", "results": [{"repeat_ns": [1e308, -1, 0]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read("saved.json", data)
		if err != nil {
			return
		}
		if c := Compare(file, file, DefaultThresholds); c.Failed() {
			t.Errorf("%q is worse than itself: %+v", data, c.Findings)
		}
	})
}
