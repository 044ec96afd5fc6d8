//go:build !linux

package search

import "time"

var began = time.Now()

// now is the time since the program began: there is no portable processor time.
func now() float64 { return time.Since(began).Seconds() }
