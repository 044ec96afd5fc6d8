package interrupt

import (
	"context"
	"os"
	"syscall"
	"testing"
)

func TestACommandThatEndsKeepsItsCode(t *testing.T) {
	abandoned := false
	code := Supervise(nil, new(Relay), func(os.Signal) { abandoned = true }, func(context.Context) int { return 4 })
	if code != 4 || abandoned {
		t.Errorf("code %d, abandoned %v", code, abandoned)
	}
}

func TestASignalEndsWhatListens(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	abandoned := false
	code := Supervise(signals, new(Relay), func(os.Signal) { abandoned = true },
		func(ctx context.Context) int { <-ctx.Done(); return 0 })
	if code != 143 || !abandoned {
		t.Errorf("code %d, abandoned %v", code, abandoned)
	}
}

// Asked twice, a command that does not listen is not waited for.
func TestASecondSignalDoesNotWait(t *testing.T) {
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGINT
	signals <- syscall.SIGINT
	forever := make(chan struct{})
	defer close(forever)
	if code := Supervise(signals, new(Relay), func(os.Signal) {},
		func(context.Context) int { <-forever; return 0 }); code != 130 {
		t.Errorf("code %d", code)
	}
}

// While a program of the user's runs, signals are its own.
func TestSignalsAreHandedOn(t *testing.T) {
	signals := make(chan os.Signal)
	to := make(chan os.Signal, 1)
	var relay Relay
	relay.Store(&to)
	code := Supervise(signals, &relay, func(os.Signal) { t.Error("abandoned") }, func(ctx context.Context) int {
		signals <- syscall.SIGTERM
		if s := <-to; s != syscall.SIGTERM || ctx.Err() != nil {
			t.Errorf("%v, %v", s, ctx.Err())
		}
		return 7
	})
	if code != 7 {
		t.Errorf("code %d", code)
	}
}
