package alloctest

import (
	"reflect"
	"unsafe"
)

// checker is what can be asked whether it is as it should be: an allocator or a policy.
type checker interface{ Check() error }

// seen reports whether a check finds any number of those that make up c's state changed. Numbers are those of type int
// and int64, which count and measure: an index or a pointer that is changed could lead a check round in a circle, and
// what lies in maps cannot be changed from without. All is as before afterwards.
func seen(c checker) bool {
	s := state{checker: c, known: map[unsafe.Pointer]bool{}}
	return s.within(reflect.ValueOf(c), 8)
}

type state struct {
	checker
	known map[unsafe.Pointer]bool
}

// within looks for such a number in v, down to a depth.
func (s *state) within(v reflect.Value, depth int) bool {
	if depth == 0 {
		return false
	}
	switch v.Kind() {
	case reflect.Interface:
		return s.within(v.Elem(), depth)
	case reflect.Pointer:
		if v.IsNil() || s.known[v.UnsafePointer()] {
			return false
		}
		s.known[v.UnsafePointer()] = true
		return s.within(v.Elem(), depth-1)
	case reflect.Struct:
		for i := range v.NumField() {
			if s.within(v.Field(i), depth-1) {
				return true
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range min(v.Len(), 64) {
			if s.within(v.Index(i), depth-1) {
				return true
			}
		}
	case reflect.Int, reflect.Int64:
		return v.CanAddr() && s.changed(v)
	}
	return false
}

// changed reports whether the check fails with one more at v.
func (s *state) changed(v reflect.Value) bool {
	number := reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem() // its field may not be exported
	before := number.Int()
	number.SetInt(before + 1)
	defer number.SetInt(before)
	return s.Check() != nil
}
