// Package interrupt ends a command at a signal, whatever it does, or hands the signal to the program that it is for.
package interrupt

import (
	"context"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// grace is how long a command may take to end by itself after a signal: to stop its children, and to show what of its
// results is whole. Long loops look at their context only now and then, and a driver's call not at all, so a command
// that takes longer is not waited for.
const grace = 60 * time.Millisecond

// Relay takes the signals that would end the command, while a program of the user's runs that they are for.
type Relay = atomic.Pointer[chan os.Signal]

// Supervise runs a command and ends it at a signal; abandon then removes what is half done and says so. It returns the
// exit code: 128 and the signal's number where one ended it.
func Supervise(signals <-chan os.Signal, relay *Relay, abandon func(os.Signal), run func(context.Context) int) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- run(ctx) }()
	for {
		select {
		case code := <-ended:
			return code
		case s := <-signals:
			if to := relay.Load(); to != nil {
				*to <- s
				continue
			}
			cancel()
			if to := relay.Load(); to != nil { // a program began in this moment: it is to end as well
				*to <- s
			}
			await(ended, signals)
			abandon(s)
			return codeOf(s)
		}
	}
}

// await lets a command end by itself for a while, unless it is asked twice.
func await(ended <-chan int, signals <-chan os.Signal) {
	select {
	case <-ended:
	case <-signals:
	case <-time.After(grace):
	}
}

func codeOf(s os.Signal) int {
	if number, ok := s.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return 128
}
