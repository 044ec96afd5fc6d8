package weights

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// ReadSafetensors reads the header of a safetensors file: a length in eight bytes and so much JSON. Tensors come by
// name.
func ReadSafetensors(r io.Reader) ([]Tensor, error) {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, headerError(0, "the safetensors header ends early")
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxSafetensH {
		return nil, headerError(0, "a header of %d bytes: at most %d make sense; is this a safetensors file?", n,
			maxSafetensH)
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	if uint64(len(data)) < n {
		return nil, headerError(8+int64(len(data)), "the safetensors header ends early")
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, headerError(8, "the header is not JSON: %v", err)
	}
	var tensors []Tensor
	for name, raw := range entries {
		if name == "__metadata__" {
			continue
		}
		t, err := safetensor(name, raw)
		if err != nil {
			return nil, err
		}
		tensors = append(tensors, t)
	}
	slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
	return tensors, nil
}

func safetensor(name string, raw json.RawMessage) (Tensor, error) {
	var e struct {
		Type    string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw, &e); err != nil || e.Type == "" {
		return Tensor{}, headerError(8, "tensor %q: want dtype, shape and data_offsets", name)
	}
	if e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] {
		return Tensor{}, headerError(8, "tensor %q: data_offsets %v", name, e.Offsets)
	}
	return Tensor{Name: name, Type: strings.ToLower(e.Type), Shape: e.Shape,
		Bytes: units.Bytes(e.Offsets[1] - e.Offsets[0])}, nil
}
