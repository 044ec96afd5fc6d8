package verdict

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindsAreFoundInChains(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, 0}, {io.EOF, 0}, {Unable.Of(nil), 0}, {Unable.Of(io.EOF), Unable},
		{fmt.Errorf("reading: %w", Failed.Errorf("%d claims", 2)), Failed},
		{errors.Join(io.EOF, Unsure.Of(io.ErrClosedPipe)), Unsure},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%v: kind %d, want %d", c.err, got, c.want)
		}
	}
	if err := Unable.Of(io.EOF); !errors.Is(err, io.EOF) || err.Error() != "EOF" {
		t.Errorf("%v hides what it wraps", err)
	}
}
