package snapshot

import (
	"fmt"
	"strings"
)

// omittedFunctions and omittedFiles are frames that say how a stack was taken, how Python was entered or how an
// operator was dispatched, and nothing of the program. The first lists are those of _frame_filter
// (torch/cuda/_memory_viz.py of 2.15.0). PyTorch leaves the allocator's own frames in; every allocation has them, so
// they say nothing either.
var (
	omittedFunctions = []string{"unwind::unwind", "CapturedTraceback::gather", "gather_with_cpp", "_start",
		"__libc_start_main", "PyEval_", "PyObject_", "PyFunction_",
		"CUDACachingAllocator::", "at::detail::empty_", "c10::intrusive_ptr<", "at::TensorBase at::detail::_empty_"}
	omittedFiles = []string{"core/boxing", "/Register", "/Redispatch", "pythonrun.c", "Modules/main.c", "Objects/call.c",
		"Objects/methodobject.c", "pycore_ceval.h", "ceval.c", "cpython/abstract.h",
		"CUDACachingAllocator.cpp", "EmptyTensor.cpp"}
)

// python reports whether a frame is of Python, whose files have names of their own.
func (f Frame) python() bool {
	return strings.HasSuffix(f.Filename, ".py") || strings.HasPrefix(f.Filename, "<")
}

// Shown reports whether a frame says something of the program.
func (f Frame) Shown() bool {
	if f.python() {
		return true
	}
	for _, part := range omittedFunctions {
		if strings.Contains(f.Name, part) {
			return false
		}
	}
	for _, part := range omittedFiles {
		if strings.Contains(f.Filename, part) {
			return false
		}
	}
	return f.Name != "" && f.Name != "??"
}

// autograd is the node of a backward pass that a native frame runs, such as MmBackward0; "" where it runs none.
func (f Frame) autograd() string {
	if f.python() || !strings.Contains(f.Name, "Backward") {
		return ""
	}
	name, _, _ := strings.Cut(f.Name, "(")
	name, ok := strings.CutSuffix(name, "::apply")
	if !ok {
		return ""
	}
	return name[strings.LastIndex(name, ":")+1:]
}

// String is the frame as people read it: file, line and function in Python, the node of a backward pass, or the
// function's name without its parameters.
func (f Frame) String() string {
	if f.python() && f.Line < 0 {
		return lastElements(f.Filename, 2) + " " + f.Name
	}
	if f.python() {
		return fmt.Sprintf("%s:%d %s", lastElements(f.Filename, 2), f.Line, f.Name)
	}
	if node := f.autograd(); node != "" {
		return node
	}
	name := f.Name
	if at := strings.LastIndex(name, "("); at > 0 && strings.HasSuffix(name, ")") {
		name = name[:at]
	}
	return name
}

// Named lists what a stack says of the program, innermost first; it is empty for NoStack.
func (s *Snapshot) Named(stack int32) []Frame {
	if s == nil || stack < 0 || int(stack) >= len(s.Stacks) {
		return nil
	}
	var list []Frame
	for _, i := range s.Stacks[stack] {
		if f := s.Frames[i]; f.Shown() {
			list = append(list, f)
		}
	}
	return list
}

// Site is where the program asked for memory: its innermost line of Python, and where that is a library's the innermost
// line of the program's own that led there; in a stack without Python the node of the backward pass, or else the
// innermost native function that says something. It is "" where the stack was not recorded.
func (s *Snapshot) Site(stack int32) string {
	frames := s.Named(stack)
	if len(frames) == 0 {
		return ""
	}
	best := frames[0]
	for _, f := range frames {
		if f.python() {
			return siteIn(f, frames)
		}
		if best.autograd() == "" && f.autograd() != "" {
			best = f
		}
	}
	return best.String()
}

// siteIn is the innermost line f of Python, with the program's own line behind it.
func siteIn(f Frame, frames []Frame) string {
	if !f.library() {
		return f.String()
	}
	for _, own := range frames {
		if own.python() && !own.library() {
			return f.String() + " < " + own.String()
		}
	}
	return f.String()
}

// library reports whether a frame is of an installed package or of Python's own.
func (f Frame) library() bool {
	path := strings.ReplaceAll(f.Filename, `\`, "/")
	return strings.Contains(path, "/site-packages/") || strings.Contains(path, "/dist-packages/") ||
		strings.Contains(path, "/lib/python") || strings.HasPrefix(path, "<frozen")
}

// lastElements keeps the end of a path, enough to find the file.
func lastElements(path string, n int) string {
	elements := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")
	return strings.Join(elements[max(0, len(elements)-n):], "/")
}

// Module is the file of the innermost line of Python, from its package down, or the innermost frame without any.
func Module(frames []Frame) string {
	for _, f := range frames {
		if !f.python() {
			continue
		}
		path := strings.ReplaceAll(f.Filename, `\`, "/")
		for _, root := range []string{"/site-packages/", "/dist-packages/"} {
			if _, rest, ok := strings.Cut(path, root); ok {
				return rest
			}
		}
		return lastElements(path, 2)
	}
	return frames[0].String()
}
