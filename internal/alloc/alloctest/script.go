package alloctest

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Script runs a text of operations on a policy and holds the state after each against what the text says. A line is
//
//	alloc a 3 4  | aaa.....      block a of 3 units at a multiple of 4; after the bar the units in address order:
//	free a       | ........      a letter for a live block, '.' free and committed, '-' addresses only, ' ' never used
//
// "# …" is a comment, "policy NAME key=value …" in the first line makes the policy (limit, quantum, granule, few,
// block). A refused request leaves "refused" at the end of its line. With update set, the states in the file are
// rewritten.
func Script(t *testing.T, file string, update bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var p alloc.Policy
	names := map[alloc.Block]byte{}
	for n, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "policy "):
			if p, err = scriptPolicy(line); err != nil {
				t.Fatalf("%s:%d: %v", file, n+1, err)
			}
			clear(names)
		case line != "" && line[0] != '#':
			op, _, _ := strings.Cut(line, "|")
			op = strings.TrimSpace(op)
			state, err := scriptStep(p, op, names)
			if err != nil {
				t.Fatalf("%s:%d: %v", file, n+1, err)
			}
			if err := p.Check(); err != nil {
				t.Fatalf("%s:%d: %v", file, n+1, err)
			}
			line = strings.TrimRight(fmt.Sprintf("%-13s | %s", op, state), " ")
		}
		fmt.Fprintln(&out, line)
	}
	if update {
		if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, want := out.String(), string(text); got != want {
		t.Errorf("%s: after the operations:\n%s\nthe file says:\n%s", file, got, want)
	}
}

func scriptPolicy(line string) (alloc.Policy, error) {
	fields := strings.Fields(line)
	var o alloc.PolicyOptions
	limit := int64(16)
	for _, f := range fields[2:] {
		key, value, _ := strings.Cut(f, "=")
		into := map[string]*int64{"limit": &limit, "quantum": &o.Quantum, "granule": &o.Granule, "few": &o.Few,
			"block": &o.Block}[key]
		if into == nil {
			return nil, fmt.Errorf("no setting %q", key)
		}
		if _, err := fmt.Sscan(value, into); err != nil {
			return nil, fmt.Errorf("setting %q: %w", f, err)
		}
	}
	return alloc.NewPolicy(fields[1], limit, o)
}

// scriptStep does one operation and returns the state after it.
func scriptStep(p alloc.Policy, op string, names map[alloc.Block]byte) (string, error) {
	fields := strings.Fields(op)
	refused := ""
	switch {
	case len(fields) >= 3 && fields[0] == "alloc":
		size, align := int64(0), int64(1)
		if _, err := fmt.Sscan(strings.Join(fields[2:], " ")+" 1", &size, &align); err != nil {
			return "", err
		}
		if b, ok := p.Place(size, align); ok {
			names[b] = fields[1][0]
		} else {
			refused = " refused"
		}
	case len(fields) == 2 && fields[0] == "free":
		for b, name := range names {
			if name == fields[1][0] {
				delete(names, b)
				if err := p.Remove(b); err != nil {
					return "", err
				}
			}
		}
	default:
		return "", fmt.Errorf("no operation %q", op)
	}
	return picture(p, names) + refused, nil
}

func picture(p alloc.Policy, names map[alloc.Block]byte) string {
	var s strings.Builder
	p.Walk(func(span alloc.Span) bool {
		unit := byte('-')
		if span.Committed {
			unit = '.'
		}
		for b, name := range names {
			if span.Live && b.Offset == span.Offset && b.Size == span.Size {
				unit = name
			}
		}
		s.WriteString(strings.Repeat(string(unit), int(span.Size)))
		return true
	})
	return s.String()
}
